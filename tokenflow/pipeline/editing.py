"""edit(): an inverted clip and a sentence become an edited video, in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec

import numpy as np

from tokenflow import config
from tokenflow.config import ControlNet, Edit, PnP, SDEdit
from tokenflow.diffusion.few_step import MAX_SCALE, MAX_STEPS
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.latents import Latents, Scratch, in_memory
from tokenflow.diffusion.sampling import Compose, sample, unchanged
from tokenflow.errors import ConfigError
from tokenflow.events import Cancel, Listener, listening, notice, track
from tokenflow.models.interruptible import interruptible
from tokenflow.models.model import Model
from tokenflow.modes.mode import Mode
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.checkpoint import Checkpoint
from tokenflow.pipeline.checks import check_interval
from tokenflow.pipeline.frames import EditedFrame, decode, restored
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.keyframes import Keyframes, carry_keyframes, filled, filling_mode
from tokenflow.pipeline.preview import Previewed
from tokenflow.pipeline.validation import check_count, check_type, validated
from tokenflow.pipeline.wiring import build_guidance, build_mode, build_propagation
from tokenflow.propagation import EditDenoiser
from tokenflow.video import Video, crop_like, restore

DEFAULTS = Edit(prompt="")

Arguments = ParamSpec("Arguments")

ModeSettings = PnP | SDEdit | ControlNet | Keyframes

MODE_NAMES: dict[type, str] = {PnP: "pnp", SDEdit: "sdedit", ControlNet: "controlnet"}


@dataclass(frozen=True, eq=False)
class Edited:
    """An edited clip.

    Attributes:
        decoded: f H W 3 uint8 at the working size.
        source: the clip that was edited.
        carried: f H W 3 uint8 at the source's size, where the frames were made at that size; None where they are
            `decoded`, enlarged.
    """

    decoded: np.ndarray = field(repr=False)
    source: InvertedClip = field(repr=False)
    carried: np.ndarray | None = field(default=None, repr=False)

    @cached_property
    def frames(self) -> np.ndarray:
        """f H W 3 uint8 at the source's size, before any codec; with `resize="fill"`, of the part that was kept."""
        if self.carried is not None:
            return self.carried
        return np.stack([restore(image, *self.source.video.size, self.source.resize) for image in self.decoded])

    @cached_property
    def video(self) -> Video:
        """The frames with the source's times, sound and transparency."""
        inversion, source = self.source.inversion, self.source.video
        alpha = None if source.alpha is None else np.stack([crop_like(each, self.frames[0]) for each in source.alpha])
        return Video(
            self.frames,
            times=inversion.times,
            end=inversion.end,
            sound=source.sound,
            alpha=alpha,
            background=source.background,
        )


def _takes_inverted_clip(function: Callable[Arguments, Edited]) -> Callable[Arguments, Edited]:
    """Check the type first, so that `edit(config)` names `run` rather than the arguments it lacks."""

    @wraps(function)
    def checked(*arguments: Arguments.args, **options: Arguments.kwargs) -> Edited:
        if arguments and not isinstance(arguments[0], InvertedClip):
            is_config = isinstance(arguments[0], config.Config)
            hint = "run(config) takes a configuration" if is_config else "invert(clip, model, prompt) makes one"
            check_type("edit", arguments[0], InvertedClip, hint)
        return function(*arguments, **options)

    return checked


@_takes_inverted_clip
def edit(
    inverted: InvertedClip,
    prompt: str,
    *,
    mode: ModeSettings = PnP(),  # noqa: B008 - frozen
    negative_prompt: str = DEFAULTS.negative_prompt,
    steps: int | None = None,
    guidance_scale: float = DEFAULTS.guidance_scale,
    guidance: Literal["propagated", "per_frame"] = DEFAULTS.guidance,
    propagate_edit_until: float = DEFAULTS.propagate_edit_until,
    seed: int = DEFAULTS.seed,
    variation: float = DEFAULTS.variation,
    batch_size: int = DEFAULTS.batch_size,
    propagation: Literal["tokenflow", "none"] = DEFAULTS.propagation,
    correspondence: Literal["flow", "nearest"] = DEFAULTS.correspondence,
    keyframe_interval: int | None = DEFAULTS.keyframe_interval,
    keyframe_window: int = DEFAULTS.keyframe_window,
    extended_attention: Literal["coarse", "all"] = DEFAULTS.extended_attention,
    preview_every: int | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> Edited:
    """Edit an inverted clip by a sentence, consistently over time.

    Args:
        inverted: what `invert` returned.
        prompt: what the edited clip should show.
        mode: `PnP()`, `SDEdit()` or `ControlNet()`, with their settings; or `Keyframes({0: image})`, frames that were
            edited elsewhere, which come back as they are.
        negative_prompt: what it should not show.
        steps: sampling steps; None for as many as the inversion took, or as a model of few steps was made for.
        guidance_scale: how strongly the prompt is enforced, at least 1.
        guidance: propagated from the keyframes, or computed for every frame that the network sees.
        propagate_edit_until: fraction of the steps, noisiest first, in which frames between keyframes take the whole
            edit from these, without a network call.
        seed: of the keyframes that are drawn, of shared noise and of `variation`.
        variation: share of fresh noise in the initial latents, in [0, 1]. At 0 a seed changes little where the noise is
            the inversion's, as always in Plug-and-Play.
        batch_size: frames per network call; a window of keyframes always goes in whole.
        propagation: `tokenflow`, or `none` for every frame by itself.
        correspondence: by optical `flow`, or by the `nearest` diffusion features.
        keyframe_interval: frames per keyframe; None for 4, or the whole clip if it is shorter.
        keyframe_window: how many keyframes attend to each other at most, and go through the network at once.
        extended_attention: at which of the network's levels they do: all but the finest, or all.
        preview_every: send a `Preview` every so many steps; None for none.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Raises:
        TypeError: `inverted` is not what `invert` returned.
        ConfigError: a value is out of range, or does not fit the clip.
        ModelError, ModelNotFoundError: the ControlNet cannot be used.
        Cancelled: `cancel` returned True.
    """
    values = _mode_values(mode)
    settings = validated(
        Edit,
        prompt=prompt,
        negative_prompt=negative_prompt,
        steps=default_steps(inverted) if steps is None else steps,
        guidance_scale=guidance_scale,
        guidance=guidance,
        propagate_edit_until=propagate_edit_until,
        seed=seed,
        variation=variation,
        batch_size=batch_size,
        propagation=propagation,
        correspondence=correspondence,
        keyframe_interval=keyframe_interval,
        keyframe_window=keyframe_window,
        extended_attention=extended_attention,
        **values,
    )
    if preview_every is not None:
        check_count("preview_every", preview_every)
    check_interval(settings, inverted.frame_count)
    with listening(on_event):
        source = replace(inverted, model=interruptible(inverted.model, cancel))
        keyframes = mode if isinstance(mode, Keyframes) else None
        frames = list(
            edit_frames(source, settings, keyframes, preview_every=preview_every, on_event=on_event, cancel=cancel)
        )
    carried = None if keyframes is None else np.stack([frame.image for frame in frames])
    return Edited(np.stack([frame.decoded for frame in frames]), inverted, carried)


def edit_frames(
    source: InvertedClip,
    settings: Edit,
    keyframes: Keyframes | None = None,
    *,
    scratch: Scratch = in_memory,
    folder: Path | None = None,
    checkpoint: Checkpoint | None = None,
    preview_every: int | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> Iterator[EditedFrame]:
    """Sample an edit, and decode it frame by frame as they are asked for.

    Args:
        source: the clip.
        settings: of the edit.
        keyframes: the edited frames, in the mode that carries them.
        scratch, folder, checkpoint, preview_every, on_event: see `sample_edit`.
        cancel: asked before every frame that is carried.
    """
    options: dict[str, Any] = {
        "scratch": scratch,
        "folder": folder,
        "checkpoint": checkpoint,
        "preview_every": preview_every,
        "on_event": on_event,
    }
    if keyframes is None:
        latents = sample_edit(source, _guidance(source, settings, settings.prompt), settings, **options)
        return restored(source, decode(source, latents, settings.batch_size, on_event))
    carried = carry_keyframes(source, keyframes, folder=folder, on_event=on_event, cancel=cancel)
    if carried.complete:
        return filled(source, carried, None)
    prompts = _guidance(source, settings, settings.prompt or source.prompt)
    mode = filling_mode(source, carried, keyframes.strength, settings.batch_size)
    always = tuple(sorted(keyframes.images))
    latents = sample_edit(source, prompts, settings, mode=mode, compose=mode.compose, always=always, **options)
    return filled(source, carried, restored(source, decode(source, latents, settings.batch_size, on_event)))


def _guidance(source: InvertedClip, settings: Edit, prompt: str) -> Guidance:
    return build_guidance(source.model, prompt, settings.negative_prompt, settings.guidance_scale, source.size)


def sample_edit(
    source: InvertedClip,
    guidance: Guidance,
    settings: Edit,
    *,
    mode: Mode | None = None,
    compose: Compose = unchanged,
    always: tuple[int, ...] = (),
    scratch: Scratch = in_memory,
    folder: Path | None = None,
    checkpoint: Checkpoint | None = None,
    preview_every: int | None = None,
    on_event: Listener | None = None,
) -> Latents:
    """The edited latents, f c h w.

    Args:
        source: the clip.
        guidance: the prompts.
        settings: of the edit.
        mode: None for the one that the settings name.
        compose: see `sample`.
        always: frames that are keyframes at every step.
        scratch: allocates latents.
        folder: where correspondences are cached; by default in a temporary file.
        checkpoint: keeps the latents of each step, and has those from which to continue.
        preview_every: steps between previews; None for none.
        on_event: called with each event.
    """
    schedule = source.model.schedule
    notice_few_steps(source.model, settings)
    steps = sampling_steps(source.model, source.inversion, settings.steps)
    mode = mode or build_mode(source, settings)
    start, taken = mode.initial_latents(steps)
    kept = None if checkpoint is None else checkpoint.load(scratch)
    done, latents = kept or (0, start)
    denoiser = EditDenoiser(source.model, mode, guidance)
    predict = build_propagation(denoiser, source, settings, taken[done:], always, folder, on_event)
    if preview_every is not None and on_event is not None:
        predict = Previewed(predict, source, preview_every, on_event)
    renoise = denoiser.source_noise if schedule.few_step and schedule.few_step.renoises else None
    loop = sample(latents, taken[done:], predict, schedule.parametrisation, scratch, compose, renoise)
    for latents in track(loop, "edit", on_event, total=len(taken), initial=done):
        done += 1
        if checkpoint is not None:
            checkpoint.save(done, latents)
    return latents


def default_steps(inverted: InvertedClip) -> int:
    """How many steps an edit takes unless told otherwise."""
    few_step = inverted.model.schedule.few_step
    return few_step.steps if few_step else inverted.steps


def notice_few_steps(model: Model, settings: Edit) -> None:
    """Notices where settings do not suit a model of few steps."""
    few_step = model.schedule.few_step
    if few_step is None:
        return
    if settings.steps > MAX_STEPS:
        notice(
            f"edit.steps is {settings.steps}, but this model was made for {MAX_STEPS} or fewer, and more gain nothing; "
            f"set it to {few_step.steps}"
        )
    if model.guidance == "branches" and settings.guidance_scale > MAX_SCALE:
        notice(
            f"edit.guidance_scale is {settings.guidance_scale:g}, but models of few steps hardly take more than "
            f"{MAX_SCALE:g}; set it to 1, which is also faster"
        )


def _mode_values(mode: ModeSettings) -> dict[str, Any]:
    """The settings of an edit that say which mode it has."""
    if isinstance(mode, Keyframes):  # its images may be in memory, where settings name files
        return {"mode": "keyframes", "keyframes": config.Keyframes(strength=mode.strength)}
    if type(mode) not in MODE_NAMES:
        raise ConfigError(f"mode is {mode!r}; expected PnP(), SDEdit(), ControlNet() or Keyframes(images)")
    return {"mode": MODE_NAMES[type(mode)], MODE_NAMES[type(mode)]: mode}
