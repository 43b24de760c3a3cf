"""Stage 2, wired: the only place that picks a mode, a propagation and a correspondence by name.

Knows what stage 2 leaves on disk, and in what order. How each part works is in the modules it imports.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tokenflow import report
from tokenflow.config import Config, load_config
from tokenflow.correspondence.base import Correspondence
from tokenflow.correspondence.features import FeatureCorrespondence
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.diffusion.batches import as_images, batches_with_bar
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Predict, sample
from tokenflow.diffusion.schedules import CLEAN, Step
from tokenflow.errors import ConfigError
from tokenflow.events import Progress, track
from tokenflow.metrics import Measures
from tokenflow.models.model import Model
from tokenflow.modes.controlnet import ControlNet
from tokenflow.modes.mode import InvertedClip, Mode
from tokenflow.modes.pnp import PnP
from tokenflow.modes.sdedit import SDEdit
from tokenflow.pipeline import output as results
from tokenflow.pipeline.checks import check_frame_count
from tokenflow.pipeline.metrics_setup import open_measures, open_score
from tokenflow.pipeline.opening import open_model, open_trajectory
from tokenflow.pipeline.output import PictureWriter
from tokenflow.pipeline.preprocessing import preprocess
from tokenflow.propagation import EditDenoiser, Guidance, PerFrame, TokenFlow
from tokenflow.store.arrays import on_disk
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import read_frames

FEATURE_NOISE = 0.25
"""At which fraction of the noise levels `nearest` reads features: enough to blur texture, not enough to hide shapes."""

DEFAULT_INTERVAL = 4
"""Frames to a keyframe where no setting says how many."""

MODES: dict[str, Callable[[InvertedClip, Config], Mode]] = {
    "pnp": lambda source, config: PnP(source, config.edit.pnp),
    "sdedit": lambda source, config: SDEdit(source, config.edit.sdedit, config.edit.seed),
    "controlnet": lambda source, config: ControlNet(source, config.edit.controlnet, config.edit.seed),
}


@dataclass(frozen=True)
class EditResult:
    """What stage 2 left.

    Attributes:
        video: the edited clip, with as many frames as were read, at the source's times, with its sound.
        comparison: source and edit side by side.
        contact_sheet: frames of both as one picture.
        page: the report as one page for a browser.
        report: the content of report.json.
    """

    video: Path
    comparison: Path
    contact_sheet: Path
    page: Path
    report: dict[str, Any]

    @property
    def frames(self) -> np.ndarray:
        """The edited frames, f H W 3 uint8, as the video holds them."""
        return np.stack([frame.picture for frame in read_frames(self.video)])


def edit(config: Config, *, model: Model | None = None, progress: Progress = True) -> EditResult:
    """Stage 2: the edited clip. Runs stage 1 first where it is missing.

    Args:
        config: of the clip and its edit.
        model: the model that `config.model` names, if it is loaded already.
        progress: draw progress bars; or who is told how far each stage is (see `tokenflow.events`).

    Raises:
        ConfigError: settings that contradict each other or the inversion.
        OutputError: nothing can be written to `output.dir`, or something there would be lost that no edit has left.
        Everything that `preprocess` raises.
    """
    watch = report.Stopwatch()
    with results.place(config) as folder:
        results.check_encoding(config, folder)
        with watch.stage("load"):
            model = model or open_model(config)
        steps = model.schedule.steps(config.edit.steps)
        guidance = _guidance(config, model)
        if config.edit.mode == "controlnet":
            model.load_control(config.edit.controlnet.path)  # what is wrong with it is said before stage 1
        score = open_score(config, model.device)
        with watch.stage("preprocess"):
            preprocess(config, model=model, progress=progress)
        source = _source(config, model)
        check_frame_count(config, source.trajectory.frame_count)
        measures = open_measures(config, source, score)
        with watch.stage("edit"):
            latents = _sample(config, source, guidance, steps, folder, progress)
        with watch.stage("decode"):
            _write_pictures(config, source, latents, folder, measures, progress)
        content = _edit_report(config, source.trajectory, measures) | watch.figures()
        content = results.write_reports(folder, config, content)
    return _result(config, content)


def open_result(folder: Path) -> EditResult:
    """What an earlier edit left in its `output.dir`.

    Raises:
        ConfigError: there is no finished edit in the folder.
    """
    try:
        content = json.loads((folder / results.REPORT).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"there is no finished edit in {folder} ({error}); run it, or name another folder") from error
    config = load_config(folder / results.CONFIG, environment={})
    output = config.output.model_copy(update={"dir": folder})
    return _result(config.model_copy(update={"output": output}), content)


def _result(config: Config, content: dict[str, Any]) -> EditResult:
    return EditResult(
        video=config.output.dir / results.edited_name(config),
        comparison=config.output.dir / results.comparison_name(config),
        contact_sheet=config.output.dir / results.CONTACT_SHEET,
        page=config.output.dir / results.PAGE,
        report=content,
    )


def _source(config: Config, model: Model) -> InvertedClip:
    trajectory = open_trajectory(config)
    return InvertedClip(model, trajectory, trajectory.frames(), model.encode_prompt(config.clip.prompt))


def _guidance(config: Config, model: Model) -> Guidance:
    """The prompts, and what there is to warn of in them."""
    wanted = config.edit
    return Guidance(
        model.encode_prompt(wanted.prompt), model.encode_prompt(wanted.negative_prompt), wanted.guidance_scale
    )


def _sample(
    config: Config, source: InvertedClip, guidance: Guidance, steps: Sequence[Step], folder: Path, progress: Progress
) -> Latents:
    """The edited latents, f c h w, which rest in the folder."""
    mode = MODES[config.edit.mode](source, config)
    start, taken = mode.initial_latents(steps)
    loop = sample(
        start,
        taken,
        _propagation(config, EditDenoiser(source.model, mode, guidance), source, folder),
        source.model.schedule,
        on_disk(folder),
    )
    *_, latents = track(loop, "edit", total=len(taken), unit="step", progress=progress)
    return latents


def _propagation(config: Config, editing: EditDenoiser, source: InvertedClip, folder: Path) -> Predict:
    wanted = config.edit
    if wanted.propagation == "none":
        return PerFrame(editing, wanted.batch_size)
    return TokenFlow(
        editing,
        wanted.batch_size,
        correspondence=_correspondence(config, source, folder),
        interval=_interval(config, source.trajectory.frame_count),
        window=wanted.keyframe_window,
        extended=wanted.extended_attention,
        seed=wanted.seed,
        carry_guidance=wanted.guidance == "carried",
        carried_until=wanted.carried_until,
    )


def _interval(config: Config, frame_count: int) -> int:
    """Frames to a keyframe."""
    return config.edit.keyframe_interval or min(DEFAULT_INTERVAL, frame_count)


def _correspondence(config: Config, source: InvertedClip, folder: Path) -> Correspondence:
    if config.edit.correspondence == "flow":
        height, width = source.latents(CLEAN, [0]).shape[-2:]
        return FlowCorrespondence(source.frames, height, width, folder)
    return matched_features(source, config.inversion.steps, folder)


def matched_features(source: InvertedClip, inversion_steps: int, folder: Path | None = None) -> FeatureCorrespondence:
    """What matches the model's features of the source, which it reads in a clip inverted in so many steps."""
    steps = source.model.schedule.steps(inversion_steps)
    timestep = steps[round((1 - FEATURE_NOISE) * (len(steps) - 1))].timestep

    def features(frames: Sequence[int]) -> Tensor:
        return source.model.features(source.latents(timestep, frames), timestep, source.conditioning)

    return FeatureCorrespondence(features, folder)


def _write_pictures(
    config: Config, source: InvertedClip, latents: Latents, folder: Path, measures: Measures, progress: Progress
) -> None:
    """Decode, write and measure the edit."""
    frames = source.frames
    with PictureWriter(folder, config, frames, source.trajectory.times, source.trajectory.end) as writer:
        for group in batches_with_bar(len(frames), config.edit.batch_size, "decode", progress):
            for frame, picture in zip(group, as_images(source.model.decode(latents[group])), strict=True):
                writer.write(picture)
                measures.add(frames[frame], picture)


def _edit_report(config: Config, trajectory: StoredInversion, measures: Measures) -> dict[str, Any]:
    """Everything of report.json but the times."""
    return {
        "settings": config.model_dump(mode="json"),
        "frames": trajectory.frame_count,
        "metrics": {"reconstruction": trajectory.report()["reconstruction"], **measures.figures()},
        "over_time": measures.over_time(),
        "versions": report.versions(),
    }
