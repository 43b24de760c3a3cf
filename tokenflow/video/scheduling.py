"""Priorities of this process's threads, kept from libraries that raise them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

THREADS = Path("/proc/self/task")
"""Where Linux lists the threads of a process by their numbers."""


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Give every thread that becomes real-time within this context the scheduling that its caller had before.

    Where it may, as root, SVT-AV1 puts its threads and the one that starts it into SCHED_FIFO at the highest priority.
    Whatever these do and start from then on starves all other processes of the machine.
    """
    if not hasattr(os, "sched_setscheduler") or not THREADS.is_dir():
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in map(int, os.listdir(THREADS)):
            with suppress(ProcessLookupError):  # it has ended
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)
