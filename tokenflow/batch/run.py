"""edit_many(): jobs given to an engine, with a record of each, progress on the terminal, and an overview at the end."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tqdm import tqdm

from tokenflow.batch.engine import Engine
from tokenflow.batch.index import write_index
from tokenflow.batch.jobs import Job, as_jobs, check, in_order
from tokenflow.batch.local import InProcess, Processes
from tokenflow.batch.ray import Ray
from tokenflow.batch.record import Record, RunFolder, is_done
from tokenflow.batch.worker import JobResult
from tokenflow.config import Config
from tokenflow.errors import BatchError
from tokenflow.events import Event, Progress, terminal_bar
from tokenflow.store.results import report_digest

EngineName = Literal["local", "ray"]

RETRIES = 2
"""How often a job is begun again by default when its worker's process dies."""


def edit_many(
    configs: Iterable[Config],
    *,
    workers: int | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    gpus: float | None = None,
    retries: int = RETRIES,
    run_dir: str | Path = "runs/batch",
    progress: bool = True,
) -> list[Record]:
    """Edit many clips. Clips are inverted once for all their edits, and a worker keeps its model.

    A job that fails does not stop the others. Called again with the same run directory, jobs that are done are
    kept, unless their settings or their clip have changed; failed and interrupted ones are done again. Results do
    not depend on the engine or the number of workers, beyond what another device or number of threads changes in
    floating point.

    Args:
        configs: of the clips and their edits, each with an `output.dir` of its own.
        workers: how many jobs at once. `local` runs one in this process, or several in processes with a device each,
            for which a script has to call this under `if __name__ == "__main__":`. For `ray`, None is one a GPU, or
            one a machine where there is none.
        engine: `local`, or `ray` from the extra of that name.
        address: `ray` only: of a cluster whose machines see the same files, as `ray.init` takes it; None starts a
            local Ray.
        gpus: `ray` only: how many a worker takes, also a fraction; None for one where there are GPUs.
        retries: how often a job is begun again when its worker's process dies.
        run_dir: where records and `index.html` are kept.
        progress: draw progress bars.

    Returns:
        A record a job, in the order of `configs`; `record.result()` is what `edit` would have returned.

    Raises:
        BatchError: jobs that cannot be done together, each named, before any work.
        EngineError: the engine cannot run.
        OutputError: the run directory cannot be written.
    """
    jobs = as_jobs(configs)
    runner = open_engine(engine, workers, address, gpus, retries)
    check(jobs)
    folder = RunFolder(Path(run_dir))
    with folder.locked(), _Run(folder, jobs, progress) as run:
        if run.open_jobs:
            runner.run(in_order(run.open_jobs), run)
    return run.records()


def open_engine(name: str, workers: int | None, address: str | None, gpus: float | None, retries: int) -> Engine:
    """The engine of a name; arguments and errors are those of `edit_many`. Nothing is started."""
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise BatchError(f"expected one worker or more; got {workers}")
    if retries < 0:
        raise BatchError(f"expected 0 retries or more; got {retries}")
    if gpus is not None and not 0 <= gpus < math.inf:
        raise BatchError(f"expected 0 GPUs a worker or more; got {gpus}")
    if name == "ray":
        return Ray(workers, retries, address, gpus)
    if name != "local":
        raise BatchError(f"there is no engine {name!r}; expected local or ray")
    if address is not None or gpus is not None:
        raise BatchError("an address and GPUs a worker are for the engine ray; leave them out, or set the engine")
    return Processes(workers, retries) if workers and workers > 1 else InProcess()


class _Run:
    """Writes down and draws what happens to the jobs: the watcher of an engine. Afterwards none is said to run.

    Attributes:
        open_jobs: those that were not done when it began.
    """

    def __init__(self, folder: RunFolder, jobs: Sequence[Job], progress: bool) -> None:
        self._folder = folder
        self._jobs = jobs
        self._records = {job.output: folder.read(job) for job in jobs}
        self.open_jobs = [job for job in jobs if not is_done(job, self._records[job.output])]
        self._bars = _Bars(len(jobs), len(jobs) - len(self.open_jobs), progress)
        self._begun = False

    def records(self) -> list[Record]:
        """How every job stands."""
        return [self._records[job.output] for job in self._jobs]

    def started(self, job: Job, worker: int) -> None:
        if not self._begun:  # not before, so that an engine that cannot run leaves the records of failures alone
            self._begun = True
            for each in self.open_jobs:
                self._write(each, Record(str(each.output), each.identity))
        self._write(job, Record(str(job.output), job.identity, "running", started=_now()))
        self._bars.begin(worker, job.output.name)

    def progressed(self, worker: int, event: Event) -> None:
        if isinstance(event, Progress):
            self._bars.progress(worker, event)

    def finished(self, job: Job, worker: int, outcome: JobResult) -> None:
        state: Literal["done", "failed"] = "failed" if outcome.failed else "done"
        report = None if outcome.failed else report_digest(job.output)
        told = asdict(outcome) | {"state": state, "finished": _now(), "report": report}
        self._write(job, replace(self._records[job.output], **told))
        self._bars.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.close()
        for job in self._jobs:
            if self._records[job.output].state == "running":
                self._write(job, Record(str(job.output), job.identity, reason="interrupted"))
        if self._begun or not self.open_jobs:
            write_index(self._folder.index, self._jobs, self.records())

    def _write(self, job: Job, record: Record) -> None:
        self._records[job.output] = record
        self._folder.write(job, record)


class _Bars:
    """A bar over the jobs, and below it one for each worker's job."""

    def __init__(self, jobs: int, done: int, progress: bool) -> None:
        self._progress = progress
        self._names: dict[int, str] = {}
        self._labels: dict[int, str] = {}
        self._workers: dict[int, tqdm] = {}
        self._jobs = terminal_bar(desc="jobs", total=jobs, initial=done, unit="job", position=0, disable=not progress)

    def begin(self, worker: int, name: str) -> None:
        self._names[worker] = name
        if worker not in self._workers:
            self._workers[worker] = terminal_bar(position=worker + 1, leave=False, disable=not self._progress)

    def progress(self, worker: int, event: Progress) -> None:
        bar = self._workers[worker]
        if not self._progress:
            return
        label = f"{self._names[worker]}: {event.stage}"
        if label != self._labels.get(worker):  # a new stage, which may start where an earlier run left it
            self._labels[worker] = label
            bar.reset(event.total)
            bar.initial = bar.n = event.done
            bar.set_description(label, refresh=False)
        bar.update(event.done - bar.n)

    def end(self) -> None:
        self._jobs.update()

    def close(self) -> None:
        for bar in (*self._workers.values(), self._jobs):
            bar.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
