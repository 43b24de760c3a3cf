"""The protocols between what has jobs and what runs them: engines, the supplies they take jobs from, and observers."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tokenflow.batch.jobs import Job
from tokenflow.batch.worker import JobResult
from tokenflow.events import Event

PATIENCE = 10.0
"""Seconds that busy workers get to stop by themselves before they are killed."""


class Observer(Protocol):
    """Follows the jobs of a batch. Called in the thread that called `Engine.run`; an exception ends the batch."""

    def on_start(self, job: Job, worker: int) -> None:
        """A worker (counted from 0) starts a job; again, if a worker died over it."""
        ...

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        """An event of a running job."""
        ...

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        """A job is done, or has failed for good."""
        ...


class Supply(Protocol):
    """Where an engine takes its jobs from. Called in the thread that called the engine, several times per second."""

    @property
    def is_open(self) -> bool:
        """Whether there are jobs to take, or may be later."""
        ...

    def take(self) -> Job | None:
        """The next job, for a worker that is free; None if none waits now."""
        ...

    def is_cancelled(self, job: Job) -> bool:
        """Whether a job that runs is to be stopped before its next network call."""
        ...


class Listed:
    """The supply of a batch: jobs that are all known from the start."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = deque(jobs)

    @property
    def is_open(self) -> bool:
        """See `Supply`."""
        return bool(self._waiting)

    def take(self) -> Job | None:
        """See `Supply`."""
        return self._waiting.popleft() if self._waiting else None

    def is_cancelled(self, job: Job) -> bool:
        """A batch is stopped as a whole."""
        return False


class Engine(Protocol):
    """Where jobs run."""

    def run(self, jobs: Sequence[Job], observer: Observer) -> None:
        """Start the jobs (at least one) in the order given, and return when each has finished or failed.

        No worker is left running, whichever exception ends the call, Ctrl-C included.

        Raises:
            EngineError: jobs cannot run this way; before any has started, unless workers stop working later.
        """
        ...


class LastingEngine(Engine, Protocol):
    """An engine that can wait for jobs to come."""

    def serve(self, supply: Supply, observer: Observer) -> None:
        """Run jobs for as long as the supply is open; as `run` in all else.

        The result of a job that the supply cancelled has `cancelled` set.
        """
        ...
