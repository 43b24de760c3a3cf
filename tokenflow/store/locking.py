"""One process at a time, by a lock that goes with the process that holds it, however that ends. Knows no more."""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

LOCK = ".tokenflow.lock"


@contextmanager
def locked(folder: Path, taken: Callable[[], None]) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, and goes again if nothing was put into it.

    Args:
        folder: what to hold; a hidden file in it is the lock.
        taken: called if another process holds it. It raises, or it returns and has us wait.

    Raises:
        OSError: nothing can be written there.
    """
    while True:
        lock = _opened(folder)
        if lock is None:
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken()
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.fstat(lock.fileno()).st_nlink:
                continue  # its holder deleted it while we waited: it locks nobody out
            try:
                yield
            finally:
                with suppress(OSError):
                    (folder / LOCK).unlink()
                    folder.rmdir()
            return


def _opened(folder: Path) -> BinaryIO | None:
    """The lock of a folder, made if need be; None where its holder took the folder away in between."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # something was there, and at second sight it was no folder
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise
        return None
    try:
        return (folder / LOCK).open("ab")
    except FileNotFoundError:
        return None
