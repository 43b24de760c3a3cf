"""Jobs on this machine: in this process, or in several, each with a device of its own."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue

import torch

from tokenflow.batch.engine import PATIENCE, Listed, Observer, Supply
from tokenflow.batch.jobs import Job
from tokenflow.batch.throttle import throttled
from tokenflow.batch.worker import CANCELLED, JobResult, Worker, limit_threads
from tokenflow.config import Config
from tokenflow.errors import Cancelled, EngineError
from tokenflow.events import Listener, Notice, Preview, Progress

MAX_FAILED_STARTS = 10
"""How many workers in a row may die before they are ready; after that it is not chance."""

PROCESSES = (
    multiprocessing.get_context("forkserver")
    if sys.platform == "linux" and hasattr(os, "fork")
    else multiprocessing.get_context("spawn")
)
"""New processes never fork this one, as CUDA would not survive it. On Linux, they fork a server that has imported what
workers need, so that they start in a fraction of a second instead of several."""

READY = "ready"
"""A worker's first message: it waits for jobs."""

STOP = "stop"
"""Sent to a worker: stop the current job before its next network call, and exit."""

CANCEL = "cancel"
"""Sent to a worker: stop the current job before its next network call, and wait for another."""

POLL_INTERVAL = 0.2
"""Seconds between two looks at a supply."""


class InProcess:
    """One job after another, in this process."""

    def run(self, jobs: Sequence[Job], observer: Observer) -> None:
        """Run every job (see `Engine.run`)."""
        worker = Worker()
        for job in jobs:
            observer.on_start(job, 0)
            result = worker.run(job.config, partial(observer.on_event, job, 0))
            observer.on_finish(job, 0, result)


class Processes:
    """Jobs in several processes. A process that dies is replaced, and only its current job starts over.

    Args:
        workers: maximum number of processes; each takes the next of the machine's GPUs, and an equal share of the
            threads.
        retries: how often a job starts over after its process died (killed, or out of memory).
        preview_every: send a `Preview` every so many steps; None for none.
    """

    def __init__(self, workers: int, retries: int, preview_every: int | None = None) -> None:
        self._count = workers
        self._retries = retries
        self._preview_every = preview_every

    def run(self, jobs: Sequence[Job], observer: Observer) -> None:
        """Run every job (see `Engine.run`)."""
        self._serve(Listed(jobs), observer, min(self._count, len(jobs)))

    def serve(self, supply: Supply, observer: Observer) -> None:
        """Run jobs as they come (see `LastingEngine.serve`)."""
        self._serve(supply, observer, self._count)

    def _serve(self, supply: Supply, observer: Observer, count: int) -> None:
        again: deque[Job] = deque()
        deaths: Counter[Path] = Counter()
        failed_starts = 0
        threads = max(1, torch.get_num_threads() // count)
        workers: list[_Process] = []
        multiprocessing.set_forkserver_preload([__name__])
        try:
            workers += (_Process(index, threads, self._preview_every) for index in range(count))
            while supply.is_open or again or any(worker.job for worker in workers):
                for worker in workers:
                    if worker.job is not None and supply.is_cancelled(worker.job):
                        worker.cancel()
                    if worker.ready and worker.job is None:
                        job = again.popleft() if again else supply.take()
                        if job is not None:
                            worker.give(job, observer)
                for worker in _wait_for_messages(workers):
                    if worker.receive(observer):
                        continue
                    failed_starts = 0 if worker.ready else failed_starts + 1
                    reason = worker.cause_of_death(failed_starts)
                    if worker.job:
                        deaths[worker.job.output] += 1
                        if deaths[worker.job.output] <= self._retries:
                            again.append(worker.job)
                        else:
                            observer.on_finish(worker.job, worker.index, JobResult(reason=reason))
                    workers[worker.index] = _Process(worker.index, threads, self._preview_every)
        finally:
            _stop(workers)


class _Process:
    """A worker process, as its parent sees it.

    Attributes:
        index: of the worker, from 0.
        ready: whether it has started up.
        job: the current one.
    """

    def __init__(self, index: int, threads: int, preview_every: int | None) -> None:
        self.index = index
        self.ready = False
        self.job: Job | None = None
        self.connection, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=_serve, args=(theirs, index, threads, preview_every), daemon=True)
        self.process.start()
        theirs.close()  # else the connection would outlive the process

    def give(self, job: Job, observer: Observer) -> None:
        """Start a job."""
        self.job = job
        observer.on_start(job, self.index)
        with suppress(OSError):  # it has died, which the next `receive` finds out
            self.connection.send(job.config)

    def cancel(self) -> None:
        """Ask the process to stop its job; harmless if the job has just ended."""
        with suppress(OSError):  # it has died
            self.connection.send(CANCEL)

    def receive(self, observer: Observer) -> bool:
        """Take the next message and report it; False if the process has died."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            return False
        match message:
            case JobResult() if self.job:
                job, self.job = self.job, None
                observer.on_finish(job, self.index, message)
            case Progress() | Preview() | Notice() if self.job:
                observer.on_event(self.job, self.index, message)
            case _:
                self.ready = True
        return True

    def cause_of_death(self, failed_starts: int) -> str:
        """Why it died, in one line.

        Raises:
            EngineError: it could not start, and another will not either.
        """
        self.process.join()
        status = self.process.exitcode or 0
        if not self.ready and (status > 0 or failed_starts >= MAX_FAILED_STARTS):
            raise EngineError(
                f"a worker process could not start ({_describe(status)}); see what it printed. In a script, call "
                "edit_many under `if __name__ == '__main__':`, as each worker imports the script"
            )
        return (
            f"its worker process died each time ({_describe(status)}); if memory ran out, try fewer workers or a "
            "smaller batch_size"
        )


def _describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):  # signals without a name, such as those for real time
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def _wait_for_messages(workers: Sequence[_Process]) -> list[_Process]:
    """The workers that have sent something or died; waits a moment for one."""
    readable = wait([worker.connection for worker in workers], POLL_INTERVAL)
    return [worker for worker in workers if worker.connection in readable]


def _stop(workers: Sequence[_Process]) -> None:
    """Stop busy workers before their next network call, so that nothing is left half done; kill idle and slow ones."""
    for worker in workers:
        if worker.job:
            with suppress(OSError):  # it has died
                worker.connection.send(STOP)
        else:
            worker.process.kill()
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _serve(connection: Connection, index: int, threads: int, preview_every: int | None) -> None:
    """The main loop of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    limit_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())
    jobs: SimpleQueue[Config | None] = SimpleQueue()
    stopped, cancelled = threading.Event(), threading.Event()
    threading.Thread(target=_receive, args=(connection, jobs, stopped, cancelled), daemon=True).start()
    worker = Worker(preview_every)
    with suppress(OSError, Cancelled):
        connection.send(READY)
        for config in iter(jobs.get, None):
            cancelled.clear()  # of the job before: that of this one comes after its configuration
            connection.send(_run(worker, config, throttled(connection.send), stopped, cancelled))


def _run(
    worker: Worker, config: Config, on_event: Listener, stopped: threading.Event, cancelled: threading.Event
) -> JobResult:
    """Run a job, which ends with `CANCELLED` if it alone is to stop, and with the error if all is."""
    try:
        return worker.run(config, on_event, cancel=lambda: stopped.is_set() or cancelled.is_set())
    except Cancelled:
        if stopped.is_set():
            raise
        return CANCELLED


def _receive(
    connection: Connection, jobs: "SimpleQueue[Config | None]", stopped: threading.Event, cancelled: threading.Event
) -> None:
    """Queue the jobs that arrive until told to stop.

    The process ends at once if its parent has died: the next run must not find another process at the same result.
    """
    try:
        while (message := connection.recv()) != STOP:
            if message == CANCEL:
                cancelled.set()
            else:
                jobs.put(message)
    except (EOFError, OSError):
        os._exit(1)
    stopped.set()
    jobs.put(None)
