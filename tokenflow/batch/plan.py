"""What a batch would do, without doing it: which jobs, which inversions, how much disk. Writes nothing."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenflow.batch.jobs import Job, as_jobs, check
from tokenflow.batch.record import RunFolder, is_done
from tokenflow.config import Config
from tokenflow.errors import TokenflowError
from tokenflow.models.sizes import sizes_of
from tokenflow.pipeline.job import find_inversion
from tokenflow.video import fit_size, probe, read_frames

BYTES_A_PIXEL = {"h264": 0.25, "hevc": 0.25, "vp9": 0.25, "av1": 0.25, "prores": 1.0, "ffv1": 1.5}
"""What encoded pictures take, roughly, at the usual quality."""

PNG_BYTES_A_PIXEL = 1.5


@dataclass(frozen=True)
class PlannedJob:
    """A job of the plan.

    Attributes:
        output: the folder of its result.
        action: what is to be done: `keep`, or `edit`.
        inversion: where stage 1 comes from: `new`, `shared` with a job before it, or `stored`; empty if kept.
        bytes: disk that it will take, estimated.
    """

    output: Path
    action: str
    inversion: str
    bytes: int


def plan(configs: Iterable[Config], run_dir: str | Path) -> list[PlannedJob]:
    """What `edit_many` would do with these, in their order.

    Raises:
        BatchError: what `edit_many` would raise.
    """
    jobs = as_jobs(configs)
    check(jobs)
    folder = RunFolder(Path(run_dir))
    origins: dict[str, str] = {}
    return [_planned(job, folder, origins) for job in jobs]


def plan_lines(steps: Sequence[PlannedJob]) -> list[str]:
    """The plan in words, with what it takes and what there is where results go."""
    width = max(len(str(step.output)) for step in steps)
    lines = [f"{step.action:<5} {step.output!s:<{width}}  {step.inversion}".rstrip() for step in steps]
    kept = sum(step.action == "keep" for step in steps)
    inversions = [sum(step.inversion == kind for step in steps) for kind in ("new", "shared", "stored")]
    lines.append(f"{len(steps) - kept} to edit, {kept} done already")
    lines.append("inversions: {} to make, {} shared with a job before, {} stored".format(*inversions))
    needed, free = sum(step.bytes for step in steps), min(_free(step.output) for step in steps)
    lines.append(f"about {_amount(needed)} of disk, of {_amount(free)} free")
    return lines


def _planned(job: Job, folder: RunFolder, origins: dict[str, str]) -> PlannedJob:
    if is_done(job, folder.read(job)):
        return PlannedJob(job.output, "keep", "", 0)
    frames, width, height = _dimensions(job.config)
    size = result_bytes(job.config, frames, width, height)
    if job.inversion in origins:
        return PlannedJob(job.output, "edit", origins[job.inversion], size)
    stored = _is_stored(job.config)
    origins[job.inversion] = "stored" if stored else "shared"
    if stored:
        return PlannedJob(job.output, "edit", "stored", size)
    return PlannedJob(job.output, "edit", "new", size + trajectory_bytes(job.config, frames, width, height))


def trajectory_bytes(config: Config, frames: int, width: int, height: int) -> int:
    """Disk that an inversion takes: frames of so many pixels as they are and reconstructed, and latents in float32 a
    level."""
    sizes = sizes_of(config.model.path)
    latent = sizes.latent_channels * (width // sizes.latent_scale) * (height // sizes.latent_scale) * 4
    pictures = (3 + BYTES_A_PIXEL["ffv1"]) * width * height
    return round(frames * (pictures + (config.inversion.steps + 1) * latent))


def result_bytes(config: Config, frames: int, width: int, height: int) -> int:
    """Disk that an edit's result takes, roughly: its video at the clip's size, that beside the source, PNGs."""
    info = probe(config.clip.path)
    edited, compared = info.width * info.height, 2 * width * height
    pictures = edited * PNG_BYTES_A_PIXEL if config.output.pngs else 0
    return round(frames * ((edited + compared) * BYTES_A_PIXEL[config.output.codec] + pictures))


def _dimensions(config: Config) -> tuple[int, int, int]:
    """How many frames will be read, and the width and height they are edited at."""
    clip, sizes = config.clip, sizes_of(config.model.path)
    info = probe(clip.path)
    if info.duration is None:
        there = sum(1 for _ in read_frames(clip.path, start=clip.start, every=clip.every))
    else:
        there = max(1, round(max(0.0, float(info.duration) - clip.start) * float(info.rate) / clip.every))
    frames = min(there, clip.frames or there)
    return frames, *fit_size(info.width, info.height, clip.size or sizes.native, sizes.multiple)


def _is_stored(config: Config) -> bool:
    try:
        return find_inversion(config).complete
    except TokenflowError:  # a device or a model that only the workers have
        return False


def _free(folder: Path) -> int:
    """Bytes on the disk of a folder, which may not be there yet."""
    place = folder.absolute()
    return shutil.disk_usage(next(parent for parent in (place, *place.parents) if parent.exists())).free


def _amount(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
