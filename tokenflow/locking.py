"""One process at a time, by a lock that goes with the process that holds it, however that ends. Knows no more."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"


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
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / LOCK).open("a")
        except FileNotFoundError:
            continue  # its holder took the folder away again
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
