"""Stage 1, wired: a clip's frames, latents and inversion into a trajectory, and the check of its reconstruction.

Knows what stage 1 leaves on disk, and in what order. How each part works is in the modules it imports.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from torch import Tensor

from tokenflow import report
from tokenflow.config import Config
from tokenflow.diffusion.batches import as_images, as_tensor, batches, batches_with_bar
from tokenflow.diffusion.inversion import LEVELS_READ, invert
from tokenflow.diffusion.latents import Latents, LazyLatents
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import CLEAN, Step
from tokenflow.errors import ClipError, ReconstructionWarning
from tokenflow.events import Progress, track
from tokenflow.metrics import psnr, ssim
from tokenflow.models.model import Model
from tokenflow.pipeline.checks import check_frame_count
from tokenflow.pipeline.opening import open_model, open_trajectory
from tokenflow.store.arrays import on_disk
from tokenflow.store.files import sha256
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import VideoWriter, fit_size, probe, read_frames, resize

RECONSTRUCTION = "reconstruction.mp4"
LOSSLESS = "reconstruction.mkv"
"""The same without what coding adds to flicker and takes from detail: edits are measured beside it."""

MAX_PIXELS = 4096**2
"""Of a frame while it is edited: far more than any Stable Diffusion was trained at."""
MAX_SIDE = 8192
"""Pixels of its longer side: the shorter one may have been brought to `clip.size` from next to nothing."""


@dataclass(frozen=True)
class PreprocessResult:
    """What stage 1 left.

    Attributes:
        folder: the trajectory's.
        frame_count: how many frames were read.
        reconstruction: the inversion sampled back, as a video.
        report: the content of the trajectory's report.json.
    """

    folder: Path
    frame_count: int
    reconstruction: Path
    report: dict[str, Any]


def preprocess(config: Config, *, model: Model | None = None, progress: Progress = True) -> PreprocessResult:
    """Stage 1: frames, latents, DDIM inversion, and a check of how well it samples back.

    Does nothing where the same clip was inverted with the same model and settings, and goes on after the last whole
    step where that was interrupted.

    Args:
        config: of the clip and its edit.
        model: the model that `config.model` names, if it is loaded already.
        progress: draw progress bars; or who is told how far each stage is (see `tokenflow.events`).

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be used.
        ModelError, ModelNotFoundError: the model cannot be used.
        TrajectoryError: what is stored is damaged or belongs to something else.
        OutputError: nothing can be written there.
        ConfigError: the edit's settings do not go with the number of frames (see `check_frame_count`), where the clip
            is not inverted yet.

    Warns:
        ReconstructionWarning: the inversion samples back to something poorer than `inversion.warn_below_psnr`.
    """
    trajectory = open_trajectory(config)
    if not _is_whole(trajectory):
        with trajectory.locked():
            if not _is_whole(trajectory):  # another run may have finished it by now
                _invert_clip(config, model or open_model(config), trajectory, progress)
    stored = trajectory.report()
    _warn_of_poor_reconstruction(config, stored)
    return PreprocessResult(trajectory.folder, trajectory.frame_count, trajectory.folder / RECONSTRUCTION, stored)


def _is_whole(trajectory: StoredInversion) -> bool:
    """Whether there is nothing left to do; videos that somebody deleted or damaged are made again.

    Raises:
        TrajectoryError: a part of the trajectory itself is gone.
    """
    trajectory.check_parts()
    return trajectory.complete and trajectory.report().get("videos") == _videos(trajectory)


def _videos(trajectory: StoredInversion) -> dict[str, str]:
    """The checksums of those of the reconstruction that are there, by name."""
    paths = [trajectory.folder / name for name in (RECONSTRUCTION, LOSSLESS)]
    return {path.name: sha256(path) for path in paths if path.is_file()}


def _invert_clip(config: Config, model: Model, trajectory: StoredInversion, progress: Progress) -> None:
    """Everything of stage 1 that the trajectory does not hold yet."""
    steps = model.schedule.steps(config.inversion.steps)
    watch = report.Stopwatch()
    size = config.inversion.batch_size
    if not trajectory.has_frames:
        with watch.stage("read"):
            trajectory.write_frames(_frames_for(config, model, progress))
    frames = trajectory.frames()
    check_frame_count(config, len(frames))  # before what takes long
    with watch.stage("encode"):
        if not trajectory.has(CLEAN):
            groups = batches_with_bar(len(frames), size, "encode", progress)
            trajectory.write_latents(CLEAN, (model.encode(as_tensor(frames[group])) for group in groups))
    with watch.stage("invert"):
        _invert_missing(config, model, steps, trajectory, progress)
    with watch.stage("reconstruct"):
        figures = _reconstruct(config, model, steps, trajectory, progress)
    content = {
        "reconstruction": figures,
        "frames": len(frames),
        "videos": _videos(trajectory),
        "versions": report.versions(),
        **watch.figures(),
    }
    trajectory.finish(content)


def _frames_for(config: Config, model: Model, progress: Progress) -> Iterator[tuple[np.ndarray, Fraction, Fraction]]:
    """The clip's frames at the model's size, with their times in the clip and how long they are shown."""
    clip = config.clip
    size = _model_size(config, model)
    part = read_frames(clip.path, start=clip.start, frames=clip.frames, every=clip.every)
    for frame in track(part, "read", unit="frame", progress=progress):
        yield resize(frame.picture, *size, clip.resize), frame.source_time, frame.duration


def _model_size(config: Config, model: Model) -> tuple[int, int]:
    """Width and height while editing."""
    clip = config.clip
    info = probe(clip.path)
    width, height = fit_size(info.width, info.height, clip.size or model.native_size, model.size_multiple)
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ClipError(
            f"{clip.path} is {info.width}×{info.height} and would be edited at {width}×{height}, more than a model "
            f"takes ({MAX_PIXELS} pixels, {MAX_SIDE} on the longer side); set clip.size to less, or to a box [width, "
            "height]"
        )
    return width, height


def _invert_missing(
    config: Config, model: Model, steps: Sequence[Step], trajectory: StoredInversion, progress: Progress
) -> None:
    """Walk on from the noisiest level that is stored."""
    missing = [step for step in steps if not trajectory.has(step.timestep)]
    if not missing:
        return
    stored = [(timestep, _level(trajectory, timestep)) for timestep in trajectory.timesteps[-LEVELS_READ:]]
    levels = invert(
        stored,
        missing,
        _source_predict(config, model),
        model.schedule,
        batch_size=config.inversion.batch_size,
        iterations=config.inversion.iterations,
        scratch=on_disk(trajectory.folder),
    )
    bar = track(
        levels,
        "invert",
        initial=len(steps) - len(missing),
        total=len(steps),
        unit="step",
        progress=progress,
    )
    for timestep, noisier in bar:
        groups = batches(range(len(noisier)), config.inversion.batch_size)
        trajectory.write_latents(timestep, (noisier[group] for group in groups))


def _level(trajectory: StoredInversion, timestep: int) -> Latents:
    """The stored latents of a time step, read when asked for."""
    return LazyLatents(trajectory.frame_count, partial(trajectory.latents, timestep))


def _source_predict(config: Config, model: Model) -> Callable[[Tensor, int], Tensor]:
    """The noise under the source's prompt, every frame for itself."""
    conditioning = model.encode_prompt(config.clip.prompt)
    return lambda latents, timestep: model.predict(latents, timestep, conditioning)[0]


def _reconstruct(
    config: Config, model: Model, steps: Sequence[Step], trajectory: StoredInversion, progress: Progress
) -> dict[str, float]:
    """Sample the inversion back, write it as videos, and compare it with the source."""
    frames = trajectory.frames()
    predict = _source_predict(config, model)

    def noise_in_all(latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        for group in batches(range(len(latents)), config.inversion.batch_size):
            yield group, predict(latents[group], step.timestep)

    start = _level(trajectory, steps[0].timestep)
    loop = sample(start, steps, noise_in_all, model.schedule, on_disk(trajectory.folder))
    *_, latents = track(loop, "reconstruct", total=len(steps), unit="step", progress=progress)
    clean = _level(trajectory, CLEAN)
    figures: dict[str, list[float]] = {}  # small tensors that last would keep the heap from shrinking
    height, width = frames.shape[1:3]
    form: dict[str, Any] = {"width": width, "height": height, "times": trajectory.times, "end": trajectory.end}
    with (
        VideoWriter(trajectory.folder / RECONSTRUCTION, **form) as video,
        VideoWriter(trajectory.folder / LOSSLESS, codec="ffv1", **form) as lossless,
    ):
        for group in batches(range(len(frames)), config.inversion.batch_size):
            source = as_tensor(frames[group])
            restored = model.decode(latents[group]).cpu()
            for name, pictures in (
                ("autoencoder", model.decode(clean[group]).cpu()),
                ("inversion", restored),
            ):
                figures.setdefault(f"{name}_psnr", []).extend(psnr(pictures, source).tolist())
                figures.setdefault(f"{name}_ssim", []).extend(ssim(pictures, source).tolist())
            for picture in as_images(restored):
                video.write(picture)
                lossless.write(picture)
    return {name: round(fmean(values), 4) for name, values in figures.items()}


def _warn_of_poor_reconstruction(config: Config, stored: dict[str, Any]) -> None:
    figures = stored["reconstruction"]
    inversion, autoencoder = figures["inversion_psnr"], figures["autoencoder_psnr"]
    threshold = config.inversion.warn_below_psnr
    if inversion >= threshold:
        return
    if autoencoder < threshold + 1:
        remedy = (
            f"the autoencoder alone gives {autoencoder:.1f} dB, so this model cannot show the clip: try another "
            "model.path or a larger clip.size"
        )
    else:
        remedy = (
            f"the autoencoder alone gives {autoencoder:.1f} dB, so the inversion loses it: try more inversion.steps or "
            "inversion.iterations, or a clip.prompt that says better what the clip shows"
        )
    warnings.warn(
        f"the inversion samples back to the source with {inversion:.1f} dB PSNR, below inversion.warn_below_psnr = "
        f"{threshold:g}; {remedy}",
        ReconstructionWarning,
        stacklevel=3,
    )
