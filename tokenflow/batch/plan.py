"""The plan of a batch, for `--dry-run`: which jobs would run, which inversions they need, and what they take."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenflow.batch.jobs import Job, as_jobs, check, in_order
from tokenflow.batch.record import RunFolder, is_done
from tokenflow.config import Config
from tokenflow.errors import TokenflowError
from tokenflow.models.blank import stored_weights
from tokenflow.models.sizes import is_few_step
from tokenflow.pipeline.disk_space import dimensions, disk_space, free_bytes
from tokenflow.pipeline.job import find_inversion, open_model
from tokenflow.pipeline.memory import estimate_memory
from tokenflow.pipeline.outlook import speed_of
from tokenflow.pipeline.speed import Speed
from tokenflow.pipeline.stages import stage_2, work
from tokenflow.report.units import format_bytes, format_seconds


@dataclass(frozen=True)
class PlannedJob:
    """What would happen to one job.

    Attributes:
        output: the folder of its result.
        action: `keep` a result that is done, or `edit`.
        inversion: `new`, `shared` with a job that starts earlier, or `stored`; empty if the result is kept.
        bytes: estimated disk space it will take.
        seconds: estimated time it will take on this machine; None where that cannot be told.
        memory: estimated bytes of the device; None likewise.
    """

    output: Path
    action: Literal["keep", "edit"]
    inversion: Literal["", "new", "shared", "stored"]
    bytes: int
    seconds: float | None = 0.0
    memory: int | None = 0


class Costs:
    """What edits take on this machine, each kind found once.

    Args:
        timed: load models that are here, and time a call of each.
    """

    def __init__(self, *, timed: bool) -> None:
        self._timed = timed
        self._speeds: dict[str, Speed | None] = {}
        self._memory: dict[str, int | None] = {}

    def memory(self, config: Config) -> int | None:
        """Bytes of the device."""
        frames, *size = dimensions(config)
        edit = config.edit.model_dump(mode="json", exclude={"prompt", "seed"})
        key = repr((config.model, edit, config.inversion, frames, size))
        if key not in self._memory:
            with suppress(TokenflowError):  # a device that only the workers have
                estimate = estimate_memory(config, frames, (size[0], size[1]))
                self._memory[key] = None if estimate is None else estimate.peak
        return self._memory.setdefault(key, None)

    def seconds(self, config: Config, *, inverts: bool) -> float | None:
        """Of an edit, with its inversion if that is not there."""
        speed = self._speed(config)
        if speed is None:
            return None
        inverted = config.edit.needs_inversion and not is_few_step(config.model.path, config.model.few_step)
        before = ["encode", *(["invert"] if inverted else [])]
        before += ["reconstruct", "compare"] if inverted and config.inversion.check else []
        stages = [*(before if inverts else []), *stage_2(config.edit)]
        amounts = work(config.inversion, config.edit)
        return speed.seconds(stages, amounts, dimensions(config)[0], measured=config.metrics.enabled)

    def _speed(self, config: Config) -> Speed | None:
        _, width, height = dimensions(config)
        key = repr((config.model, config.inversion.batch_size, width, height))
        if self._timed and key not in self._speeds:
            with suppress(TokenflowError):
                if stored_weights(config.model):
                    self._speeds[key] = speed_of(config, open_model(config.model), (width, height))
        return self._speeds.setdefault(key, None)


def plan(configs: Iterable[Config], run_dir: str | Path, *, timed: bool = False) -> list[PlannedJob]:
    """What `edit_many` would do, in the order of the configurations. Writes nothing.

    Args:
        configs: the jobs.
        run_dir: the folder of their records.
        timed: load models that are on this machine, and time a call of each.

    Raises:
        BatchError: as `edit_many` does.
    """
    jobs = as_jobs(configs)
    check(jobs)
    folder = RunFolder(Path(run_dir))
    planned: dict[Path, PlannedJob] = {}
    new: list[Job] = []
    costs = Costs(timed=timed)
    for job in in_order(jobs):
        planned[job.output] = _plan_job(job, folder, new, costs)
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
    takes = [f"about {format_bytes(needed)} of disk space, {format_bytes(free)} free"]
    seconds = [job.seconds for job in jobs if job.seconds is not None]
    if len(seconds) == len(jobs) > kept:
        takes.append(f"about {format_seconds(sum(seconds))} on this machine, one after another")
    memory = [job.memory for job in jobs if job.memory]
    if memory:
        takes.append(f"at most about {format_bytes(max(memory))} of a device's memory per job")
    lines.append("; ".join(takes))
    return lines


def _plan_job(job: Job, folder: RunFolder, new: Sequence[Job], costs: Costs) -> PlannedJob:
    """Plan one job, given those that start earlier and invert."""
    if is_done(job, folder.read(job)):
        return PlannedJob(job.output, "keep", "", 0)
    space = disk_space(job.config)
    inversion: Literal["new", "shared", "stored"] = "new"
    if any(job.may_reuse(other) for other in new):
        inversion = "shared"
    elif _is_stored(job.config):
        inversion = "stored"
    needed = space.result + (space.inversion + space.flow if inversion == "new" else 0)
    seconds = costs.seconds(job.config, inverts=inversion == "new")
    return PlannedJob(job.output, "edit", inversion, needed, seconds, costs.memory(job.config))


def _is_stored(config: Config) -> bool:
    try:
        return find_inversion(config).complete
    except TokenflowError:  # a device or a model that only the workers have
        return False
