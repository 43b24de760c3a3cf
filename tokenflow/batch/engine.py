"""The protocols between `edit_many` and what runs its jobs: engines, and the observers they report to."""

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


class Engine(Protocol):
    """Where jobs run."""

    def run(self, jobs: Sequence[Job], observer: Observer) -> None:
        """Start the jobs (at least one) in the order given, and return when each has finished or failed.

        No worker is left running, whichever exception ends the call, Ctrl-C included.

        Raises:
            EngineError: jobs cannot run this way; before any has started, unless workers stop working later.
        """
        ...
