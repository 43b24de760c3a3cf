"""Importing what takes seconds when it is first needed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def importing() -> Iterator[None]:
    """Import inside of this block: one thread at a time.

    Requests, jobs and the loading of the model run in threads. Two that import parts of one package at once may wait
    for each other, and Python ends that by giving one of them a module that is half done.
    """
    with _lock:
        yield
