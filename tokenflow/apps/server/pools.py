"""Pools of workers and which of them are alive: a pool holds a lock for as long as its process lives."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenflow.store.files import locked


class Alive(Exception):  # noqa: N818 - an answer
    """Another process holds the lock."""


def new_pool() -> str:
    """The name of a pool."""
    return secrets.token_hex(8)


@contextmanager
def living(folder: Path, pool: str) -> Iterator[None]:
    """Be alive until the block ends, or the process does."""
    with locked(folder, lambda: None, name=f"{pool}.lock"):  # another process may just be asking whether we live
        yield
    _forget(folder, pool)


def is_alive(folder: Path, pool: str) -> bool:
    """Whether the process of a pool lives. The lock of one that does not is removed."""
    path = folder / f"{pool}.lock"
    if not path.exists():
        _forget(folder, pool)
        return False
    try:
        with locked(folder, _raise, name=path.name):
            pass
    except Alive:
        return True
    _forget(folder, pool)
    return False


def note_ready(folder: Path, pool: str) -> None:
    """Say that a worker of a pool that lives waits for its first video."""
    (folder / f"{pool}.ready").touch()


def any_ready(folder: Path) -> bool:
    """Whether there is a pool that takes videos."""
    return any(is_alive(folder, path.stem) for path in folder.glob("*.ready"))


def _forget(folder: Path, pool: str) -> None:
    for path in (folder / f"{pool}.lock", folder / f"{pool}.ready"):
        path.unlink(missing_ok=True)


def _raise() -> None:
    raise Alive
