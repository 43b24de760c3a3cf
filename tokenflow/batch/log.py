"""The log of a batch: the record of every job, and the overview at the end."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from tokenflow.batch.index import write_index
from tokenflow.batch.jobs import Job
from tokenflow.batch.record import Record, RunFolder, is_done
from tokenflow.batch.worker import JobResult
from tokenflow.events import Event
from tokenflow.store.results import report_digest


class BatchLog:
    """An observer that keeps the record of every job. On exit no job is left marked as running, and the overview is
    written.

    Args:
        folder: where records are kept.
        jobs: all jobs of the batch.

    Attributes:
        open_jobs: those that were not done at the start.
    """

    def __init__(self, folder: RunFolder, jobs: Sequence[Job]) -> None:
        self._folder = folder
        self._jobs = jobs
        self._records = {job.output: folder.read(job) for job in jobs}
        self.open_jobs = [job for job in jobs if not is_done(job, self._records[job.output])]
        self._started = False

    def records(self) -> list[Record]:
        """The state of every job."""
        return [self._records[job.output] for job in self._jobs]

    def on_start(self, job: Job, worker: int) -> None:
        """Mark the job as running."""
        if not self._started:  # only now, so that an engine that cannot start leaves the records of failures alone
            self._started = True
            for each in self.open_jobs:
                self._write(each, _fresh(each))
        self._write(job, replace(_fresh(job), state="running", started=_now()))

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        """Nothing to keep: the job's result has its warnings."""

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        """Record how it ended."""
        changes: dict[str, Any] = asdict(result)
        del changes["cancelled"]  # a batch stops as a whole, and its jobs then wait
        del changes["error"]  # the reason tells more
        if result.failed:
            changes["state"] = "failed"
        else:
            changes |= {"state": "done", "report": report_digest(job.output)}
        self._write(job, replace(self._records[job.output], finished=_now(), **changes))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self._jobs:
            if self._records[job.output].state == "running":
                self._write(job, replace(_fresh(job), reason="interrupted"))
        if self._started or not self.open_jobs:
            write_index(self._folder.index, self._jobs, self.records())

    def _write(self, job: Job, record: Record) -> None:
        self._records[job.output] = record
        self._folder.write(job, record)


def _fresh(job: Job) -> Record:
    return Record(str(job.output), job.identity)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
