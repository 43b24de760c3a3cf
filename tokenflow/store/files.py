"""Single files and folders: digests, atomic writes, locks, and the errors of writing."""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import lock_descriptor

from tokenflow.errors import OutputError, TokenflowError
from tokenflow.events import Cancel, notice, raise_if_cancelled

LOCK = ".tokenflow.lock"
"""The file that locks a folder."""

MAKE_ROOM = "make room, or choose another place"
"""The remedy for an `OutputError` where no setting can be named."""

MAX_ATTEMPTS = 100
"""How often to make a folder that other processes keep removing."""

POLL_SECONDS = 0.05
"""How long to wait before asking again for a lock that another process holds."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What the system reports where the file system has no locks."""


@contextmanager
def output_errors(path: Path, remedy: str = MAKE_ROOM) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that names the path and the remedy.

    Wrap file operations only: an `OSError` of the work itself is not about `path`.

    Raises:
        OutputError: an operation inside failed. Errors of tokenflow pass unchanged.
    """
    try:
        yield
    except TokenflowError:
        raise
    except OSError as error:
        is_blocked = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it or one of its parents is not a folder" if is_blocked else error.strerror or error
        raise OutputError(f"cannot write to {path} ({reason}); {remedy}") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file in hex digits, read in chunks.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_atomically(path: Path, remedy: str = MAKE_ROOM) -> Iterator[Path]:
    """A temporary file beside `path`, which replaces it once the block has ended and the content is on disk.

    If the block raises, `path` stays as it was, the temporary file is removed, and the error passes unchanged.

    Args:
        path: the file to write; missing parent folders are created.
        remedy: what to do when the file cannot be written.

    Raises:
        OutputError: the temporary file cannot be created, flushed or renamed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with output_errors(path, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
        yield temporary
        with output_errors(path, remedy):
            with temporary.open("r+b") as file:  # Windows flushes only what is open for writing
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, remedy: str = MAKE_ROOM) -> None:
    """Write a text file atomically, as UTF-8.

    Raises:
        OutputError: it cannot be written.
    """
    with write_atomically(path, remedy) as temporary, output_errors(path, remedy):
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: dict[str, Any], remedy: str = MAKE_ROOM) -> None:
    """Write a JSON file atomically.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n", remedy)


@contextmanager
def locked(
    folder: Path,
    on_wait: Callable[[], object],
    remedy: str = MAKE_ROOM,
    name: str = LOCK,
    cancel: Cancel | None = None,
) -> Iterator[None]:
    """Lock a folder against other processes and threads until the block ends or the process dies.

    The lock file stays in the folder, unless nothing else was added to it: then no trace is left.

    Args:
        folder: created if missing.
        on_wait: called once when another process holds the lock. It raises to give up, or returns to wait.
        remedy: what to do when nothing can be written to the folder.
        name: of the lock file.
        cancel: asked again and again while waiting; returning True gives up.

    Raises:
        OutputError: the lock file cannot be created.
        Cancelled: `cancel` returned True.

    Warns:
        TokenflowWarning: the file system has no locks, and the work goes on without one.
    """
    path = folder / name
    while True:
        with output_errors(folder, remedy):
            before = _names(folder)
            file, created = _open_lock(path)
        with file:
            if not _acquire(file, folder, remedy):
                on_wait()
                while not _acquire(file, folder, remedy):
                    raise_if_cancelled(cancel)
                    time.sleep(POLL_SECONDS)
            if not _is_at(path, file):
                continue  # its last holder removed it, so it excludes no other process
            try:
                yield
            finally:
                if name not in before and _names(folder) == before | {name}:
                    _remove_lock(path, file, created)
            return


def _open_lock(path: Path) -> tuple[BinaryIO, set[Path]]:
    """The lock file, opened, and the folders that had to be created for it."""
    created: set[Path] = set()
    for _ in range(MAX_ATTEMPTS):
        try:
            for folder in reversed(path.parents):
                if not folder.exists():
                    folder.mkdir()
                    created.add(folder)
            return path.open("ab"), created
        except (FileExistsError, FileNotFoundError) as error:  # perhaps another process creates or removes a folder
            last = error
    raise last


def _acquire(file: BinaryIO, folder: Path, remedy: str) -> bool:
    """Whether the lock is ours now."""
    with output_errors(folder, remedy):
        try:
            return lock_descriptor(file.fileno(), blocking=False)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    notice(f"the file system of {folder} has no locks; make sure that no other run writes there")
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file is still the one at a path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _remove_lock(path: Path, file: BinaryIO, created: Collection[Path]) -> None:
    """Remove a lock file, before it is released, and the folders created for it."""
    with suppress(OSError):
        try:
            path.unlink()
        except PermissionError:  # Windows deletes no open file, and so none that another process has locked since
            file.close()
            path.unlink()
        for folder in sorted(created, reverse=True):  # a folder before its parent
            folder.rmdir()


def _names(folder: Path) -> set[str]:
    """The names in a folder; none if it is missing."""
    with suppress(OSError):
        return set(os.listdir(folder))
    return set()
