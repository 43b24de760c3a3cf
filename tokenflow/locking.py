"""One process at a time, by a lock that goes with the process that holds it, however that ends. Knows no more."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path, taken: Callable[[], None]) -> Iterator[None]:
    """Hold a file as a lock. Whoever holds it may delete it, or the folder that it is in.

    Args:
        path: the file; it and its folder are made if they are not there.
        taken: called if another process holds it. It raises, or it returns and has us wait.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken()
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:  # else it was deleted while we waited, and locks nobody out
                yield
                return
