"""The plan of a batch, for `--dry-run`: which jobs would run, which inversions they need, and how much disk space."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenflow.batch.jobs import Job, as_jobs, check
from tokenflow.batch.record import RunFolder, is_done
from tokenflow.config import Config
from tokenflow.errors import TokenflowError
from tokenflow.models.sizes import sizes_of
from tokenflow.pipeline.job import find_inversion
from tokenflow.video import fit_size, probe, read_frames

BYTES_PER_PIXEL = {"h264": 0.25, "hevc": 0.25, "vp9": 0.25, "av1": 0.25, "prores": 1.0, "ffv1": 1.5}
"""Of encoded frames by codec, roughly, at the default quality."""

PNG_BYTES_PER_PIXEL = 1.5
"""The same of PNGs."""


@dataclass(frozen=True)
class PlannedJob:
    """What would happen to one job.

    Attributes:
        output: the folder of its result.
        action: `keep` a result that is done, or `edit`.
        inversion: `new`, `shared` with an earlier job of the plan, or `stored`; empty if the result is kept.
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
    seen: dict[str, Literal["shared", "stored"]] = {}
    return [_plan_job(job, folder, seen) for job in jobs]


def plan_lines(jobs: Sequence[PlannedJob]) -> list[str]:
    """The plan as text: a line per job, then totals, and the disk space needed and free."""
    width = max(len(str(job.output)) for job in jobs)
    lines = [f"{job.action:<5} {job.output!s:<{width}}  {job.inversion}".rstrip() for job in jobs]
    kept = sum(job.action == "keep" for job in jobs)
    inversions = [sum(job.inversion == kind for job in jobs) for kind in ("new", "shared", "stored")]
    lines.append(f"{len(jobs) - kept} to edit, {kept} already done")
    lines.append("inversions: {} new, {} shared with an earlier job, {} stored".format(*inversions))
    needed, free = sum(job.bytes for job in jobs), min(_free_bytes(job.output) for job in jobs)
    lines.append(f"about {_format_bytes(needed)} of disk space, {_format_bytes(free)} free")
    return lines


def _plan_job(job: Job, folder: RunFolder, seen: dict[str, Literal["shared", "stored"]]) -> PlannedJob:
    """Plan one job, given the inversions of the jobs before it."""
    if is_done(job, folder.read(job)):
        return PlannedJob(job.output, "keep", "", 0)
    frames, width, height = _dimensions(job.config)
    size = result_bytes(job.config, frames, width, height)
    if job.inversion in seen:
        return PlannedJob(job.output, "edit", seen[job.inversion], size)
    if _is_stored(job.config):
        seen[job.inversion] = "stored"
        return PlannedJob(job.output, "edit", "stored", size)
    seen[job.inversion] = "shared"
    return PlannedJob(job.output, "edit", "new", size + inversion_bytes(job.config, frames, width, height))


def inversion_bytes(config: Config, frames: int, width: int, height: int) -> int:
    """Disk space of an inversion: raw frames at the working size, float32 latents per level, and the reconstruction."""
    sizes = sizes_of(config.model.path)
    latent = sizes.latent_channels * (width // sizes.latent_scale) * (height // sizes.latent_scale) * 4
    per_pixel = 3 + (BYTES_PER_PIXEL["ffv1"] if config.inversion.check else 0)
    return round(frames * (per_pixel * width * height + (config.inversion.steps + 1) * latent))


def result_bytes(config: Config, frames: int, width: int, height: int) -> int:
    """Disk space of a result, roughly: the video and PNGs at the clip's size, the comparison at twice the working
    size."""
    info, output = probe(config.clip.path), config.output
    edited = info.width * info.height
    compared = 2 * width * height if output.comparison else 0
    pngs = edited * PNG_BYTES_PER_PIXEL if output.pngs else 0
    return round(frames * ((edited + compared) * BYTES_PER_PIXEL[output.codec] + pngs))


def _dimensions(config: Config) -> tuple[int, int, int]:
    """The number of frames to edit, and the working width and height."""
    clip, sizes = config.clip, sizes_of(config.model.path)
    info = probe(clip.path)
    if info.duration is None:
        available = sum(1 for _ in read_frames(clip.path, start=clip.start, every=clip.every))
    else:
        available = max(1, round(max(0.0, float(info.duration) - clip.start) * float(info.rate) / clip.every))
    frames = min(available, clip.frames or available)
    return frames, *fit_size(info.width, info.height, clip.size or sizes.native, sizes.multiple)


def _is_stored(config: Config) -> bool:
    try:
        return find_inversion(config).complete
    except TokenflowError:  # a device or a model that only the workers have
        return False


def _free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, which need not exist yet."""
    path = folder.absolute()
    return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free


def _format_bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
