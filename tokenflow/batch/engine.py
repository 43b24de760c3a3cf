"""What runs jobs, and whom it tells: the protocol of local.py and ray.py. Knows neither."""

from collections.abc import Sequence
from typing import Protocol

from tokenflow.batch.jobs import Job
from tokenflow.batch.worker import JobResult
from tokenflow.events import Event

PATIENCE = 10.0
"""Seconds that workers get to end by themselves when a batch is stopped."""


class Observer(Protocol):
    """Is told what happens, in the process and the thread that called `Engine.run`."""

    def started(self, job: Job, worker: int) -> None:
        """A worker (counted from 0) begins a job, perhaps not for the first time."""
        ...

    def progressed(self, worker: int, event: Event) -> None:
        """A worker's job has advanced."""
        ...

    def finished(self, job: Job, worker: int, outcome: JobResult) -> None:
        """A job is done, or has failed for good."""
        ...


class Engine(Protocol):
    """Where jobs run."""

    def run(self, jobs: Sequence[Job], watcher: Observer) -> None:
        """Run every job, beginning in the order given, and return when each has finished or failed.

        Whatever comes out, Ctrl-C included, no worker is left running.

        Raises:
            EngineError: jobs cannot be run this way; before any is begun, unless workers stop working later.
        """
        ...
