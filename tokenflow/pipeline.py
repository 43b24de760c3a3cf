"""The two stages: the only place that picks a mode, a propagation and a correspondence by name, and wires them.

Knows what a run leaves on disk, and in what order. How each part works is in the modules it imports.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tokenflow import report, results
from tokenflow.backbones.base import Backbone
from tokenflow.backbones.loading import choose_device, choose_dtype, fingerprint, load_backbone
from tokenflow.config import Config
from tokenflow.correspondence.base import Correspondence
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.correspondence.nearest import NearestCorrespondence
from tokenflow.denoise import Predict, denoise
from tokenflow.errors import ConfigError, ReconstructionWarning
from tokenflow.inversion import invert
from tokenflow.metrics import WarpError, psnr, ssim
from tokenflow.modes.base import Mode, Source
from tokenflow.modes.controlnet import ControlNet
from tokenflow.modes.pnp import PnP
from tokenflow.modes.sdedit import SDEdit
from tokenflow.propagation import Editing, Guidance, PerFrame, TokenFlow, batches
from tokenflow.results import PictureWriter
from tokenflow.schedule import CLEAN, Schedule, Step
from tokenflow.trajectory import Trajectory
from tokenflow.video import VideoWriter, fit_size, probe, read_frames, resize

FEATURE_NOISE = 0.25
"""At which fraction of the noise levels `nearest` reads features: enough to blur texture, not enough to hide shapes."""

MODES: dict[str, Callable[[Source, Config], Mode]] = {
    "pnp": lambda source, config: PnP(source, config.edit.pnp),
    "sdedit": lambda source, config: SDEdit(source, config.edit.sdedit, config.edit.seed),
    "controlnet": lambda source, config: ControlNet(source, config.edit.controlnet, config.edit.seed),
}


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


@dataclass(frozen=True)
class EditResult:
    """What stage 2 left.

    Attributes:
        video: the edited clip, with as many frames as were read, at the source's times, with its sound.
        comparison: source and edit side by side.
        contact_sheet: frames of both as one picture.
        report: the content of report.json.
    """

    video: Path
    comparison: Path
    contact_sheet: Path
    report: dict[str, Any]

    @property
    def frames(self) -> np.ndarray:
        """The edited frames, f H W 3 uint8, as the video holds them."""
        return np.stack([frame.picture for frame in read_frames(self.video)])


def preprocess(config: Config, *, backbone: Backbone | None = None, progress: bool = True) -> PreprocessResult:
    """Stage 1: frames, latents, DDIM inversion, and a check of how well it samples back.

    Does nothing where the same clip was inverted with the same model and settings, and goes on after the last whole
    step where that was interrupted.

    Args:
        config: of the clip and its edit.
        backbone: the model that `config.model` names, if it is loaded already.
        progress: draw progress bars.

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be used.
        ModelError, ModelNotFoundError: the model cannot be used.
        TrajectoryError: what is stored is damaged or belongs to something else.
        OutputError: nothing can be written there.

    Warns:
        ReconstructionWarning: the inversion samples back to something poorer than `inversion.warn_below_psnr`.
    """
    trajectory = _trajectory(config)
    with trajectory.locked():
        if not trajectory.complete:
            _invert_clip(config, backbone or _load(config), trajectory, progress)
    stored = json.loads((trajectory.folder / "report.json").read_text())
    _warn_of_poor_reconstruction(config, stored)
    return PreprocessResult(trajectory.folder, trajectory.frame_count, trajectory.folder / "reconstruction.mp4", stored)


def edit(config: Config, *, backbone: Backbone | None = None, progress: bool = True) -> EditResult:
    """Stage 2: the edited clip. Runs stage 1 first where it is missing.

    Args:
        config: of the clip and its edit.
        backbone: the model that `config.model` names, if it is loaded already.
        progress: draw progress bars.

    Raises:
        ConfigError: settings that contradict each other or the inversion.
        Everything that `preprocess` raises.
    """
    watch = report.Stopwatch()
    with results.whole_or_not(config.output.dir) as folder:
        with watch.stage("load"):
            backbone = backbone or _load(config)
        steps = _edit_steps(config, backbone.schedule)
        with watch.stage("preprocess"):
            preprocess(config, backbone=backbone, progress=progress)
        source = _source(config, backbone)
        with watch.stage("edit"):
            latents = _sample(config, source, steps, progress)
        with watch.stage("decode"):
            errors = _write_pictures(config, source, latents, folder, progress)
        content = _edit_report(config, source.trajectory, errors) | watch.figures()
        report.write_json(folder / results.REPORT, content)
        (folder / results.CONFIG).write_text(config.to_yaml())
    return EditResult(
        video=config.output.dir / results.edited_name(config),
        comparison=config.output.dir / results.comparison_name(config),
        contact_sheet=config.output.dir / results.CONTACT_SHEET,
        report=content,
    )


def _load(config: Config) -> Backbone:
    model = config.model
    return load_backbone(model.path, model.device, model.dtype, model.base)


def _trajectory(config: Config) -> Trajectory:
    """The trajectory of this clip with this model and these settings, in a folder named after all of them."""
    precision = choose_dtype(config.model.dtype, choose_device(config.model.device))
    info = probe(config.clip.path)
    made_from = {
        "clip": _hash_file(info.path),
        "part": config.clip.model_dump(mode="json", include={"start", "frames", "every", "size", "resize"}),
        "prompt": config.clip.prompt,
        "model": fingerprint(config.model.path, dtype=str(precision), base=str(config.model.base)),
        "inversion": config.inversion.model_dump(mode="json", include={"steps", "refinements"}),
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    return Trajectory(config.trajectories.dir / f"{config.clip.path.stem}-{digest}", made_from)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _invert_clip(config: Config, backbone: Backbone, trajectory: Trajectory, progress: bool) -> None:
    """Everything of stage 1 that the trajectory does not hold yet."""
    watch = report.Stopwatch()
    size = config.inversion.batch_size
    if not trajectory.has_frames:
        with watch.stage("read"):
            trajectory.write_frames(_frames_for(config, backbone, progress))
    frames = trajectory.frames()
    with watch.stage("encode"):
        if not trajectory.has(CLEAN):
            trajectory.write_latents(CLEAN, _encode(backbone, frames, size, progress))
    with watch.stage("invert"):
        _invert_missing(config, backbone, trajectory, progress)
    with watch.stage("reconstruct"):
        figures = _reconstruct(config, backbone, trajectory, frames, progress)
    content = {
        "reconstruction": figures,
        "frames": len(frames),
        "versions": report.versions(),
        **watch.figures(),
    }
    report.write_json(trajectory.folder / "report.json", content)
    trajectory.finish()


def _frames_for(config: Config, backbone: Backbone, progress: bool) -> Iterator[tuple[np.ndarray, Fraction]]:
    """The clip's frames at the model's size, with their times in the clip."""
    clip = config.clip
    info = probe(clip.path)
    size = fit_size(info.width, info.height, clip.size or backbone.native_size, backbone.size_multiple)
    part = read_frames(clip.path, start=clip.start, frames=clip.frames, every=clip.every)
    for frame in tqdm(part, "read", unit="frame", disable=not progress):
        yield resize(frame.picture, *size, clip.resize), frame.source_time


def _encode(backbone: Backbone, frames: np.ndarray, batch_size: int, progress: bool) -> Tensor:
    groups = [backbone.encode(as_tensor(frames[group])) for group in _bar(len(frames), batch_size, "encode", progress)]
    return torch.cat(groups)


def _invert_missing(config: Config, backbone: Backbone, trajectory: Trajectory, progress: bool) -> None:
    """Walk on from the noisiest level that is stored."""
    steps = backbone.schedule.steps(config.inversion.steps)
    missing = [step for step in steps if not trajectory.has(step.timestep)]
    if not missing:
        return
    latents = trajectory.latents(missing[-1].next_timestep).to(backbone.device)
    predict = _source_predict(config, backbone)
    levels = invert(latents, missing, predict, backbone.schedule, config.inversion.refinements)
    bar = tqdm(
        levels,
        "invert",
        initial=len(steps) - len(missing),
        total=len(steps),
        unit="step",
        disable=not progress,
    )
    for timestep, noisier in bar:
        trajectory.write_latents(timestep, noisier)


def _source_predict(config: Config, backbone: Backbone) -> Callable[[Tensor, int], Tensor]:
    """The noise under the source's prompt, every frame for itself."""
    conditioning = backbone.embed(config.clip.prompt)

    def predict(latents: Tensor, timestep: int) -> Tensor:
        groups = latents.split(config.inversion.batch_size)
        return torch.cat([backbone.predict(group, timestep, conditioning)[0] for group in groups])

    return predict


def _reconstruct(
    config: Config, backbone: Backbone, trajectory: Trajectory, frames: np.ndarray, progress: bool
) -> dict[str, float]:
    """Sample the inversion back, write it as a video, and compare it with the source."""
    steps = backbone.schedule.steps(config.inversion.steps)
    predict = _source_predict(config, backbone)
    noisiest = trajectory.latents(steps[0].timestep).to(backbone.device)
    loop = denoise(noisiest, steps, lambda latents, step: predict(latents, step.timestep), backbone.schedule)
    *_, latents = tqdm(loop, "reconstruct", total=len(steps), unit="step", disable=not progress)
    clean = trajectory.latents(CLEAN)
    figures: dict[str, list[Tensor]] = {}
    height, width = frames.shape[1:3]
    times = [time - trajectory.times[0] for time in trajectory.times]
    with VideoWriter(trajectory.folder / "reconstruction.mp4", width=width, height=height, times=times) as video:
        for group in batches(range(len(frames)), config.inversion.batch_size):
            source = as_tensor(frames[group])
            restored = backbone.decode(latents[group]).cpu()
            for name, pictures in (
                ("autoencoder", backbone.decode(clean[group]).cpu()),
                ("inversion", restored),
            ):
                figures.setdefault(f"{name}_psnr", []).append(psnr(pictures, source))
                figures.setdefault(f"{name}_ssim", []).append(ssim(pictures, source))
            for picture in as_pictures(restored):
                video.write(picture)
    return {name: round(float(torch.cat(values).mean()), 4) for name, values in figures.items()}


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
            "inversion.refinements, or a clip.prompt that says better what the clip shows"
        )
    warnings.warn(
        f"the inversion samples back to the source with {inversion:.1f} dB PSNR, below inversion.warn_below_psnr = "
        f"{threshold:g}; {remedy}",
        ReconstructionWarning,
        stacklevel=3,
    )


def _edit_steps(config: Config, schedule: Schedule) -> Sequence[Step]:
    """The edit's steps, whose time steps must all be in the inversion."""
    inverted = {step.timestep for step in schedule.steps(config.inversion.steps)}
    steps = schedule.steps(config.edit.steps)
    if {step.timestep for step in steps} <= inverted:
        return steps
    fitting = [
        str(count)
        for count in range(1, config.inversion.steps + 1)
        if {step.timestep for step in schedule.steps(count)} <= inverted
    ]
    raise ConfigError(
        f"edit.steps is {config.edit.steps}, whose time steps an inversion of {config.inversion.steps} steps does not "
        f"have; set edit.steps to one of {', '.join(fitting)}, or inversion.steps to {config.edit.steps}"
    )


def _source(config: Config, backbone: Backbone) -> Source:
    trajectory = _trajectory(config)
    return Source(backbone, trajectory, trajectory.frames(), backbone.embed(config.clip.prompt))


def _sample(config: Config, source: Source, steps: Sequence[Step], progress: bool) -> Tensor:
    """The edited latents, f c h w."""
    mode = MODES[config.edit.mode](source, config)
    start, taken = mode.start(steps)
    loop = denoise(start, taken, _propagation(config, source, mode), source.backbone.schedule)
    *_, latents = tqdm(loop, "edit", total=len(taken), unit="step", disable=not progress)
    return latents


def _propagation(config: Config, source: Source, mode: Mode) -> Predict:
    backbone, wanted = source.backbone, config.edit
    guidance = Guidance(backbone.embed(wanted.prompt), backbone.embed(wanted.negative_prompt), wanted.guidance_scale)
    editing = Editing(backbone, mode, guidance)
    if wanted.propagation == "none":
        return PerFrame(editing, wanted.batch_size)
    return TokenFlow(
        editing,
        wanted.batch_size,
        correspondence=_correspondence(config, source),
        interval=wanted.keyframe_interval,
        window=wanted.keyframe_window,
        seed=wanted.seed,
        carry_guidance=wanted.guidance == "carried",
    )


def _correspondence(config: Config, source: Source) -> Correspondence:
    if config.edit.correspondence == "flow":
        height, width = source.latents(CLEAN, [0]).shape[-2:]
        return FlowCorrespondence(source.frames, height, width)
    steps = source.backbone.schedule.steps(config.inversion.steps)
    timestep = steps[round((1 - FEATURE_NOISE) * (len(steps) - 1))].timestep

    def features(frames: Sequence[int]) -> Tensor:
        return source.backbone.features(source.latents(timestep, frames), timestep, source.conditioning)

    return NearestCorrespondence(features)


def _write_pictures(
    config: Config, source: Source, latents: Tensor, folder: Path, progress: bool
) -> dict[str, list[float]]:
    """Decode and write the edit, and return warp errors by name."""
    frames, warp = source.frames, WarpError()
    with PictureWriter(folder, config, frames, source.trajectory.times) as writer:
        for group in _bar(len(frames), config.edit.batch_size, "decode", progress):
            for frame, picture in zip(group, as_pictures(source.backbone.decode(latents[group])), strict=True):
                writer.write(picture)
                warp.add(frames[frame], {"source": frames[frame], "edit": picture})
    return warp.errors()


def _edit_report(config: Config, trajectory: Trajectory, errors: dict[str, list[float]]) -> dict[str, Any]:
    """Everything of report.json but the times."""
    stored = json.loads((trajectory.folder / "report.json").read_text())
    return {
        "settings": config.model_dump(mode="json"),
        "frames": trajectory.frame_count,
        "metrics": {
            "reconstruction": stored["reconstruction"],
            "warp_error_e3": {name: round(1e3 * float(np.mean(each)), 4) for name, each in errors.items()},
        },
        "versions": report.versions(),
    }


def as_tensor(pictures: np.ndarray) -> Tensor:
    """Pictures f H W 3 uint8 as f 3 H W in [0, 1]."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255


def as_pictures(frames: Tensor) -> np.ndarray:
    """Frames f 3 H W in [0, 1] as f H W 3 uint8."""
    return (frames.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).byte().cpu().numpy()


def _bar(frame_count: int, batch_size: int, label: str, progress: bool) -> Iterator[list[int]]:
    """Frames in batches, with a progress bar over frames."""
    with tqdm(total=frame_count, desc=label, unit="frame", disable=not progress) as bar:
        for group in batches(range(frame_count), batch_size):
            yield group
            bar.update(len(group))
