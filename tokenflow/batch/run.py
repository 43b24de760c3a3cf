"""edit_many(): jobs given to an engine, with a record of each, events on the way, and an overview at the end."""

import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from tokenflow.batch.bars import JobBars
from tokenflow.batch.engine import Engine, Observer
from tokenflow.batch.jobs import as_jobs, check, in_order
from tokenflow.batch.local import InProcess, Processes
from tokenflow.batch.log import BatchLog
from tokenflow.batch.observers import CancelCheck, EventRelay, Observers
from tokenflow.batch.ray import Ray
from tokenflow.batch.record import Record, RunFolder
from tokenflow.config import Config
from tokenflow.errors import BatchError
from tokenflow.events import Cancel, Listener
from tokenflow.events import progress as report_progress

EngineName = Literal["local", "ray"]

DEFAULT_RETRIES = 2
"""How often a job starts over after its worker's process died."""


def edit_many(
    configs: Iterable[Config],
    *,
    workers: int | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    gpus: float | None = None,
    retries: int = DEFAULT_RETRIES,
    run_dir: str | Path = "runs/batch",
    progress: bool = True,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> list[Record]:
    """Run many configurations. Each clip is inverted once; each worker loads its model once.

    A job that fails does not stop the others. Called again with the same run directory, it keeps the jobs that are
    done, unless their settings or their clip have changed, and runs those that failed or were interrupted. Results do
    not depend on the engine or the number of workers, beyond what another device or number of threads changes in
    floating point.

    Args:
        configs: of the clips and their edits, each with an `output.dir` of its own.
        workers: maximum number of jobs at once. `local` runs one in this process, or several in processes with a
            device each, for which a script has to call this under `if __name__ == "__main__":`. For `ray`, None is one
            per GPU, or one per machine without GPUs.
        engine: `local`, or `ray` from the extra of that name.
        address: `ray` only: of a cluster whose machines see the same files, as `ray.init` takes it; None starts a
            local Ray.
        gpus: `ray` only: GPUs per worker, which may be a fraction; None for one where there are GPUs.
        retries: how often a job starts over after its worker's process died.
        run_dir: where records and `index.html` are kept.
        progress: draw progress bars.
        on_event: called with the events of all jobs, and with `Progress` of the stage `jobs` as jobs finish. With
            several workers the events of several jobs alternate.
        cancel: asked at every event; returning True stops all workers and raises `Cancelled`.

    Returns:
        One record per job, in the order of `configs`; `record.result()` is what `run` would have returned.

    Raises:
        BatchError: jobs that cannot run together, each named, before any work.
        EngineError: the engine cannot run.
        OutputError: the run directory cannot be written.
        Cancelled: `cancel` returned True.
    """
    jobs = as_jobs(configs)
    runner = open_engine(engine, workers, address, gpus, retries)
    check(jobs)
    folder = RunFolder(Path(run_dir))
    with folder.locked(), BatchLog(folder, jobs) as log, ExitStack() as stack:
        observers: list[Observer] = [log]
        total, done = len(jobs), len(jobs) - len(log.open_jobs)
        if progress:
            observers.append(stack.enter_context(JobBars(total, done)))
        if on_event is not None:
            advance = stack.enter_context(report_progress("jobs", total, on_event, initial=done))
            observers.append(EventRelay(on_event, advance))
        if cancel is not None:
            observers.append(CancelCheck(cancel))
        if log.open_jobs:
            runner.run(in_order(log.open_jobs), Observers(observers))
    return log.records()


def open_engine(name: str, workers: int | None, address: str | None, gpus: float | None, retries: int) -> Engine:
    """The engine of that name, not started; arguments and errors are those of `edit_many`."""
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise BatchError(f"expected one worker or more, got {workers}")
    if retries < 0:
        raise BatchError(f"expected 0 retries or more, got {retries}")
    if gpus is not None and not 0 <= gpus < math.inf:
        raise BatchError(f"expected 0 GPUs per worker or more, got {gpus}")
    if name == "ray":
        return Ray(workers, retries, address, gpus)
    if name != "local":
        raise BatchError(f"unknown engine {name!r}; expected local or ray")
    if address is not None or gpus is not None:
        raise BatchError("address and gpus are options of the engine ray; leave them out, or choose that engine")
    return Processes(workers, retries) if workers and workers > 1 else InProcess()
