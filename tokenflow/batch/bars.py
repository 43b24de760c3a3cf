"""Progress of a batch on the terminal."""

from types import TracebackType
from typing import Self

from tqdm import tqdm

from tokenflow.batch.jobs import Job
from tokenflow.batch.worker import JobResult
from tokenflow.events import Event, Progress, stage_unit, terminal_bar


class JobBars:
    """An observer that draws a bar over all jobs, and below it one per worker for the current stage of its job.

    Args:
        total: number of jobs.
        done: how many were done before.
    """

    def __init__(self, total: int, done: int) -> None:
        self._jobs = terminal_bar(desc="jobs", total=total, initial=done, unit="job", position=0)
        self._stages: dict[int, tuple[str, tqdm]] = {}

    def on_start(self, job: Job, worker: int) -> None:
        """Clear the worker's bar."""
        self._close(worker)

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        """Draw progress; notices are listed with the job's record in the end."""
        if not isinstance(event, Progress):
            return
        label = f"{job.output.name}: {event.stage}"
        if worker not in self._stages or self._stages[worker][0] != label:
            self._close(worker)
            self._stages[worker] = label, _stage_bar(label, event, worker)
        _, bar = self._stages[worker]
        bar.update(event.done - bar.n)

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        """Count the job."""
        self._jobs.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in list(self._stages):
            self._close(worker)
        self._jobs.close()

    def _close(self, worker: int) -> None:
        if worker in self._stages:
            _, bar = self._stages.pop(worker)
            bar.close()


def _stage_bar(label: str, event: Progress, worker: int) -> tqdm:
    """A bar that starts where the stage does, so that its rate leaves out what an earlier run had finished."""
    return terminal_bar(
        desc=label,
        total=event.total,
        initial=event.done,
        unit=stage_unit(event.stage),
        position=worker + 1,
        leave=False,
    )
