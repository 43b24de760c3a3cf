"""The plan of a batch, for `--dry-run`: which jobs would run, which inversions they need, and how much disk space."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenflow.batch.jobs import Job, as_jobs, check, in_order
from tokenflow.batch.record import RunFolder, is_done
from tokenflow.config import Config
from tokenflow.errors import TokenflowError
from tokenflow.pipeline.disk_space import disk_space, free_bytes
from tokenflow.pipeline.job import find_inversion
from tokenflow.report.units import format_bytes


@dataclass(frozen=True)
class PlannedJob:
    """What would happen to one job.

    Attributes:
        output: the folder of its result.
        action: `keep` a result that is done, or `edit`.
        inversion: `new`, `shared` with a job that starts earlier, or `stored`; empty if the result is kept.
        bytes: estimated disk space it will take.
    """

    output: Path
    action: Literal["keep", "edit"]
    inversion: Literal["", "new", "shared", "stored"]
    bytes: int


def plan(configs: Iterable[Config], run_dir: str | Path) -> list[PlannedJob]:
    """What `edit_many` would do, in the order of the configurations. Writes nothing.

    Raises:
        BatchError: as `edit_many` does.
    """
    jobs = as_jobs(configs)
    check(jobs)
    folder = RunFolder(Path(run_dir))
    planned: dict[Path, PlannedJob] = {}
    new: list[Job] = []
    for job in in_order(jobs):
        planned[job.output] = _plan_job(job, folder, new)
        if planned[job.output].inversion == "new":
            new.append(job)
    return [planned[job.output] for job in jobs]


def plan_lines(jobs: Sequence[PlannedJob]) -> list[str]:
    """The plan as text: a line per job, then totals, and the disk space needed and free."""
    width = max(len(str(job.output)) for job in jobs)
    lines = [f"{job.action:<5} {job.output!s:<{width}}  {job.inversion}".rstrip() for job in jobs]
    kept = sum(job.action == "keep" for job in jobs)
    inversions = [sum(job.inversion == kind for job in jobs) for kind in ("new", "shared", "stored")]
    lines.append(f"{len(jobs) - kept} to edit, {kept} already done")
    lines.append("inversions: {} new, {} shared with an earlier job, {} stored".format(*inversions))
    needed, free = sum(job.bytes for job in jobs), min(free_bytes(job.output) for job in jobs)
    lines.append(f"about {format_bytes(needed)} of disk space, {format_bytes(free)} free")
    return lines


def _plan_job(job: Job, folder: RunFolder, new: Sequence[Job]) -> PlannedJob:
    """Plan one job, given those that start earlier and invert."""
    if is_done(job, folder.read(job)):
        return PlannedJob(job.output, "keep", "", 0)
    space = disk_space(job.config)
    if any(job.may_reuse(other) for other in new):
        return PlannedJob(job.output, "edit", "shared", space.result)
    if _is_stored(job.config):
        return PlannedJob(job.output, "edit", "stored", space.result)
    return PlannedJob(job.output, "edit", "new", space.result + space.inversion)


def _is_stored(config: Config) -> bool:
    try:
        return find_inversion(config).complete
    except TokenflowError:  # a device or a model that only the workers have
        return False
