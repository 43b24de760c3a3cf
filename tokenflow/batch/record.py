"""The run directory: one record per job, written atomically, and a lock."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tokenflow.batch.jobs import Job
from tokenflow.errors import BatchError
from tokenflow.pipeline import EditResult, open_result
from tokenflow.store.files import locked, write_json
from tokenflow.store.results import is_complete, report_digest

LOCK = ".tokenflow-batch.lock"
"""A name of its own, since results may go into the same folder."""

REMEDY = "set another run directory"

State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Record:
    """The state of a job.

    Attributes:
        output: the folder of its result.
        identity: of its settings and clip when it was started (see `Job.identity`).
        state: waiting, running, done or failed.
        reason: why it failed, or why it is waiting again; one line.
        started, finished: times, ISO 8601 in UTC.
        seconds: duration of the edit, including the wait for a shared inversion.
        inverted: whether this job made its clip's inversion, rather than found it.
        report: SHA-256 of the result's report, which tells it from another edit's in the same folder.
        warnings: messages of the notices.
        traceback: of a failure that is not an error of the user's.
    """

    output: str
    identity: str
    state: State = "waiting"
    reason: str | None = None
    started: str | None = None
    finished: str | None = None
    seconds: float | None = None
    inverted: bool | None = None
    report: str | None = None
    warnings: tuple[str, ...] = ()
    traceback: str | None = None

    def result(self) -> EditResult:
        """The result of the edit.

        Raises:
            BatchError: the job is not done.
        """
        if self.state != "done":
            raise BatchError(
                f"{self.output} has no result: the job is {self.state} ({self.reason or 'not run'}); run it again"
            )
        return open_result(Path(self.output))


def is_done(job: Job, record: Record) -> bool:
    """Whether nothing is left to do: the record says so, and the job's own result is still there and complete."""
    return record.state == "done" and record.report == report_digest(job.output) and is_complete(job.output)


class RunFolder:
    """The folder of a batch's records and overview.

    Args:
        path: the folder; created when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def index(self) -> Path:
        """The overview of all results."""
        return self.path / "index.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that no second batch works on the same jobs; the lock goes with the process.

        Raises:
            BatchError: another process holds it.
            OutputError: the folder cannot be written to.
        """

        def refuse() -> None:
            raise BatchError(f"another batch is running in {self.path}; wait for it, or set another run directory")

        with locked(self.path, refuse, REMEDY, LOCK):
            yield

    def read(self, job: Job) -> Record:
        """The job's record; a waiting one if there is none, or only one of other settings or of another clip.

        Raises:
            BatchError: the record is damaged.
        """
        path = self._file(job)
        fresh = Record(str(job.output), job.identity)
        if not path.exists():
            return fresh
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            stored = Record(**{**content, "warnings": tuple(content["warnings"])})
        except (ValueError, TypeError, KeyError) as error:
            raise BatchError(f"{path} is damaged ({error}); delete it, and its job will run again") from error
        return stored if stored.identity == job.identity else fresh

    def write(self, job: Job, record: Record) -> None:
        """Store the job's record."""
        write_json(self._file(job), asdict(record), REMEDY)

    def _file(self, job: Job) -> Path:
        digest = hashlib.sha256(str(job.output.resolve()).encode()).hexdigest()[:8]
        return self.path / "jobs" / f"{job.output.name}-{digest}.json"
