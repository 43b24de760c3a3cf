"""Jobs on this machine: in this process, or in several, each with a device of its own."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

import cv2
import torch

from tokenflow.batch.engine import PATIENCE, Observer
from tokenflow.batch.jobs import Job
from tokenflow.batch.worker import JobResult, Worker
from tokenflow.errors import Cancelled, EngineError
from tokenflow.events import Event, Listener, Progress

FAILED_STARTS = 10
"""After so many workers in a row that died before they could begin, it is not chance."""

INTERVAL = 0.2
"""Seconds between two messages of how far a job is."""

SPAWN = multiprocessing.get_context("spawn")
"""Processes from scratch: CUDA does not survive a fork."""


class InProcess:
    """One job after another, here."""

    def run(self, jobs: Sequence[Job], watcher: Observer) -> None:
        """Run every job (see `Engine.run`)."""
        worker = Worker()
        for job in jobs:
            watcher.started(job, 0)
            outcome = worker.run(job.config, partial(watcher.progressed, 0))
            watcher.finished(job, 0, outcome)


class Processes:
    """Jobs in several processes. One that dies is replaced, and only the job in its hand is begun again.

    Args:
        workers: how many processes; each takes the next of the machine's GPUs, and its share of the CPU's threads.
        retries: how often a job is begun again when its process dies (killed, or out of memory).
    """

    def __init__(self, workers: int, retries: int) -> None:
        self._count = workers
        self._retries = retries

    def run(self, jobs: Sequence[Job], watcher: Observer) -> None:
        """Run every job (see `Engine.run`)."""
        waiting = deque(jobs)
        deaths: Counter[Path] = Counter()
        failed_starts = 0
        count = min(self._count, len(jobs))
        threads = max(1, torch.get_num_threads() // max(1, count))
        workers: list[_Process] = []
        try:
            workers += (_Process(index, threads) for index in range(count))
            while waiting or any(worker.job for worker in workers):
                for worker in workers:
                    if worker.ready and worker.job is None and waiting:
                        worker.give(waiting.popleft(), watcher)
                for worker in _with_news(workers):
                    if worker.hear(watcher):
                        continue
                    failed_starts = 0 if worker.ready else failed_starts + 1
                    reason = worker.cause_of_death(failed_starts)
                    if worker.job:
                        deaths[worker.job.output] += 1
                        if deaths[worker.job.output] <= self._retries:
                            waiting.appendleft(worker.job)
                        else:
                            watcher.finished(worker.job, worker.index, JobResult(reason=reason))
                    workers[workers.index(worker)] = _Process(worker.index, threads)
        finally:
            _stop(workers)


class _Process:
    """A worker in its own process, as this one sees it.

    Attributes:
        index: of the worker, from 0.
        ready: whether it has started up.
        job: what it is at.
    """

    def __init__(self, index: int, threads: int) -> None:
        self.index = index
        self.ready = False
        self.job: Job | None = None
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, index, threads), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not be the end of the connection

    def give(self, job: Job, watcher: Observer) -> None:
        """Have it begin a job."""
        self.job = job
        watcher.started(job, self.index)
        with suppress(OSError):  # it has died, which is heard of next
            self.connection.send(job.config)

    def hear(self, watcher: Observer) -> bool:
        """Take its next message and pass it on; False if it has died."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            return False
        match message:
            case JobResult() if self.job:
                job, self.job = self.job, None
                watcher.finished(job, self.index, message)
            case Progress():
                watcher.progressed(self.index, message)
            case _:
                self.ready = True
        return True

    def cause_of_death(self, failed_starts: int) -> str:
        """Why it died, in a line.

        Raises:
            EngineError: it could not start, and another will not either.
        """
        self.process.join()
        status = self.process.exitcode or 0
        if not self.ready and (status > 0 or failed_starts >= FAILED_STARTS):
            raise EngineError(
                f"a worker process could not start (exit status {status}); what it printed says why. In a script, "
                "edit_many has to be called under `if __name__ == '__main__':`, since each worker imports the script"
            )
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return (
            f"its worker process died each time ({how}); if memory ran out, try fewer workers or a smaller batch_size"
        )


def _with_news(workers: Sequence[_Process]) -> list[_Process]:
    """Wait until a worker has said something or died."""
    heard = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in heard]


def _stop(workers: Sequence[_Process]) -> None:
    """Let workers end what they are at without leaving anything half done; kill the idle, and those that take long."""
    for worker in workers:
        if worker.job:
            worker.process.terminate()
        else:
            worker.process.kill()
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _serve(connection: Connection, index: int, threads: int) -> None:
    """The life of a worker process: take a job, do it, say how it ended; until nobody gives any more."""
    worker = Worker()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; who gave the job decides
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())
    with suppress(EOFError, OSError, KeyboardInterrupt, Cancelled):
        connection.send("ready")
        while True:
            config = connection.recv()
            connection.send(worker.run(config, _throttled(connection.send)))


def _die_with_parent() -> None:
    """End at once if who gave the job is gone, lest the next run finds a stranger writing the same result."""
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


def _throttled(listener: Listener) -> Listener:
    """Pass on progress at most a few times per second, but always a stage's start and end."""
    last = 0.0

    def on_event(event: Event) -> None:
        nonlocal last
        now = time.monotonic()
        if isinstance(event, Progress) and (now - last > INTERVAL or event.done in (0, event.total)):
            last = now
            listener(event)

    return on_event
