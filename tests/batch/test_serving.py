"""Engines that wait for jobs: they take them as they come, and stop single ones."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.batch.conftest import Configure
from tokenflow.batch.engine import LastingEngine
from tokenflow.batch.jobs import Job
from tokenflow.batch.local import Processes
from tokenflow.batch.ray import Ray
from tokenflow.batch.worker import JobResult
from tokenflow.errors import EngineError
from tokenflow.events import Event, Preview


class Visitor:
    """A supply and observer: gives each job once the one before has ended, and cancels those that it is told to."""

    def __init__(self, jobs: Sequence[Job], cancelled: Sequence[Job]) -> None:
        self._jobs, self._cancelled = list(jobs), list(cancelled)
        self._is_busy = False
        self.results: list[JobResult] = []
        self.previews = 0

    @property
    def is_open(self) -> bool:
        return bool(self._jobs) or self._is_busy

    def take(self) -> Job | None:
        if self._is_busy or not self._jobs:
            return None
        self._is_busy = True
        return self._jobs.pop(0)

    def is_cancelled(self, job: Job) -> bool:
        return job in self._cancelled

    def on_start(self, job: Job, worker: int) -> None:
        """Nothing to keep."""

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        self.previews += isinstance(event, Preview)

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        self.results.append(result)
        self._is_busy = False


def ray_engine() -> LastingEngine:
    with suppress(EngineError):
        return Ray(workers=1, retries=1, address=None, gpus=None, preview_every=1)
    pytest.skip("Ray is not installed")


def processes() -> LastingEngine:
    return Processes(workers=1, retries=1, preview_every=1)


@pytest.mark.parametrize("open_engine", [processes, pytest.param(ray_engine, marks=pytest.mark.ray)])
def test_jobs_are_taken_as_they_come_and_one_is_stopped_alone(
    open_engine, configure: Configure, tmp_path: Path
) -> None:
    long = configure(1, 1, "edit.steps=900", "inversion.steps=900", f"output.dir={tmp_path / 'long'}")
    jobs = [Job(config) for config in (*configure(2, 1), *long, *configure(3, 1)[2:])]
    visitor = Visitor(jobs, [jobs[2]])
    open_engine().serve(visitor, visitor)
    assert [result.cancelled for result in visitor.results] == [False, False, True, False]
    assert [result.failed for result in visitor.results] == [False, False, True, False]
    assert visitor.previews == 3 * 4
    assert [(job.output / "report.json").exists() for job in jobs] == [True, True, False, True]
