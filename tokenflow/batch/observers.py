"""Observers that serve others: several at once, a listener to events, a request to stop."""

from collections.abc import Callable, Sequence

from tokenflow.batch.engine import Observer
from tokenflow.batch.jobs import Job
from tokenflow.batch.worker import JobResult
from tokenflow.errors import Cancelled
from tokenflow.events import Cancel, Event, Listener


class Observers:
    """Several observers as one, called in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def on_start(self, job: Job, worker: int) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.on_start(job, worker)

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.on_event(job, worker, event)

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.on_finish(job, worker, result)


class EventRelay:
    """Passes the events of all jobs to a listener.

    Args:
        listener: receives the events.
        advance: called with 1 after each job.
    """

    def __init__(self, listener: Listener, advance: Callable[[int], None]) -> None:
        self._listener = listener
        self._advance = advance

    def on_start(self, job: Job, worker: int) -> None:
        """Nothing to tell: the job's own events follow."""

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        """Pass it on."""
        self._listener(event)

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        """Count it."""
        self._advance(1)


class CancelCheck:
    """Ends the batch with `Cancelled` at the next event once `cancel` returns True; the engine stops its workers.

    Args:
        cancel: asked at every event.
    """

    def __init__(self, cancel: Cancel) -> None:
        self._cancel = cancel

    def on_start(self, job: Job, worker: int) -> None:
        """Ask before a job begins."""
        self._ask()

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        """Ask whenever a job has advanced."""
        self._ask()

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        """A finished job is kept."""

    def _ask(self) -> None:
        if self._cancel():
            raise Cancelled("stopped; the same batch later runs what is missing")
