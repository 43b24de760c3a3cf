"""The work that the page has asked for: one job at a time, in the server, whether a browser is watching or not."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from tokenflow.apps.exit_status import error_message
from tokenflow.config import Config
from tokenflow.errors import Cancelled
from tokenflow.events import Cancel, Event, Listener, Notice, Preview, Progress

State = Literal["waiting", "running", "done", "failed", "cancelled"]

Work = Callable[[Listener, Cancel], Any]

MAX_KEPT = 50
"""Finished jobs that a page can still show."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """Work that waits, is under way or has ended.

    Attributes:
        kind: `trial`, `whole` or `compare`.
        configs: what it edits; several to compare them.
        work: does it.
        id: names it in the page; not to be guessed.
        state: how far it is.
        progress: the last of its events of that kind; so are `preview` and `notices`.
        outcome: what the work returned.
        error: what it raised.
        version: grows with every change, so that a page knows whether there is something to show.
    """

    kind: Literal["trial", "whole", "compare"]
    configs: tuple[Config, ...]
    work: Work
    id: str = field(default_factory=lambda: uuid4().hex)
    state: State = "waiting"
    progress: Progress | None = None
    preview: Preview | None = None
    notices: list[str] = field(default_factory=list)
    outcome: Any = None
    error: Exception | None = None
    version: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def is_finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed", "cancelled")

    def on_event(self, event: Event) -> None:
        """Keep what the work reports."""
        match event:
            case Progress():
                self.progress = event
            case Preview():
                self.preview = event
            case Notice() if event.message not in self.notices:
                self.notices.append(event.message)
        self.version += 1

    def become(self, state: State) -> None:
        """Change the state."""
        self.state = state
        self.version += 1


class Jobs:
    """A queue of jobs and the threads that do them in order.

    Args:
        at_once: how many are done at the same time.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [threading.Thread(target=self._do_all, name="jobs", daemon=True) for _ in range(at_once)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> Job:
        """Put a job at the end of the queue."""
        with self._changed:
            self._forget()
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify()
        return job

    def find(self, job_id: str) -> Job | None:
        """The job of an id, if it is still known."""
        return self._jobs.get(job_id)

    def unfinished(self) -> list[Job]:
        """Those that run or wait, in order."""
        return [job for job in list(self._jobs.values()) if not job.is_finished]

    def ahead(self, job: Job) -> int:
        """How many others are done before a job that waits."""
        jobs = self.unfinished()
        return jobs.index(job) if job in jobs else 0

    def cancel(self, job: Job) -> None:
        """Stop a job: before its next network call, or before it begins."""
        job.stop.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.become("cancelled")

    def close(self) -> None:
        """Cancel all jobs and wait for those that run."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for job in self.unfinished():
            self.cancel(job)
        for thread in self._threads:
            thread.join()

    def _do_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                job = self._waiting.popleft()
                job.become("running")
            _do(job)

    def _forget(self) -> None:
        """Drop the oldest finished jobs."""
        finished = [job for job in self._jobs.values() if job.is_finished]
        for job in finished[: max(0, len(finished) - MAX_KEPT)]:
            del self._jobs[job.id]


def _do(job: Job) -> None:
    try:
        job.outcome = job.work(job.on_event, job.stop.is_set)
    except Cancelled:
        job.become("cancelled")
    except Exception as error:
        if error_message(error) is None:  # a bug; all others are shown on the page
            log.exception("a job failed")
        job.error = error
        job.become("failed")
    else:
        job.become("done")
