"""edit(): an inverted clip and a sentence become an edited video, in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, Literal, ParamSpec

import numpy as np

from tokenflow import config
from tokenflow.config import ControlNet, Edit, FlowEdit, Instruct, PnP, SDEdit
from tokenflow.errors import ConfigError
from tokenflow.events import Cancel, Listener, listening
from tokenflow.models.interruptible import interruptible
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.checks import (
    check_interval,
    check_inverted,
    check_paints_somewhere,
    notice_missing_triggers,
)
from tokenflow.pipeline.keyframes import Keyframes
from tokenflow.pipeline.references import Reference, checked_references
from tokenflow.pipeline.regions import FoundRegion, Regions, checked_regions, regions_of
from tokenflow.pipeline.sampling import OnStep, edit_frames
from tokenflow.pipeline.validation import check_count, check_type, validated
from tokenflow.video import Video, crop_like, restore

DEFAULTS = Edit(prompt="")

Arguments = ParamSpec("Arguments")

ModeSettings = PnP | SDEdit | ControlNet | FlowEdit | Instruct | Keyframes

MODE_NAMES: dict[type, str] = {
    PnP: "pnp",
    SDEdit: "sdedit",
    ControlNet: "controlnet",
    FlowEdit: "flowedit",
    Instruct: "instruct",
}


@dataclass(frozen=True, eq=False)
class Edited:
    """An edited clip.

    Attributes:
        decoded: f H W 3 uint8 at the working size.
        source: the clip that was edited.
        full: f H W 3 uint8 at the source's size, where the frames were made at it; None where they are `decoded`,
            enlarged.
        masks: f H W uint8 at the source's size, what the edit was allowed to change: 255 inside; where it is 0,
            `frames` are the source's own. None for everything.
        regions: how each region was found.
    """

    decoded: np.ndarray = field(repr=False)
    source: InvertedClip = field(repr=False)
    full: np.ndarray | None = field(default=None, repr=False)
    masks: np.ndarray | None = field(default=None, repr=False)
    regions: tuple[FoundRegion, ...] = ()

    @cached_property
    def frames(self) -> np.ndarray:
        """f H W 3 uint8 at the source's size, before any codec; with `resize="fill"`, of the part that was kept."""
        if self.full is not None:
            return self.full
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
    propagated_layers: Literal["all", "half"] = DEFAULTS.propagated_layers,
    kept_features: Literal["auto", "device", "main_memory"] = DEFAULTS.kept_features,
    carry_interval: int | None = DEFAULTS.carry_interval,
    regions: Regions | None = None,
    references: Sequence[Reference | Any] = (),
    ip_adapter: str | None = DEFAULTS.ip_adapter,
    preview_every: int | None = None,
    on_step: OnStep | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> Edited:
    """Edit an inverted clip by a sentence, consistently over time.

    Args:
        inverted: what `invert` returned.
        prompt: what the edited clip should show.
        mode: `PnP()`, `SDEdit()`, `ControlNet()` or `FlowEdit()`, with their settings; `Instruct()`, where the prompt
            is an instruction; or `Keyframes({0: image})`, frames that were edited elsewhere, which come back as they
            are.
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
        propagated_layers: at which attention layers frames take the keyframes' features: all, or every second one.
        kept_features: where these rest until they do: on the device, in main memory, or whichever suits.
        carry_interval: after decoding, every n-th edited frame is carried in pixels to the frames between, where the
            motion is sure and the edit keeps the source's edges; None for not at all.
        regions: the parts of the clip that may change; `auto` for one that is found where the prompt changes only a
            part of the frame; empty for the whole frame; None for the default.
        references: images whose look the edit takes: `Reference(image, weight=…)`, or images alone.
        ip_adapter: an IP-Adapter of Stable Diffusion or SDXL to read them with, a `.safetensors` file or one on the Hub
            (see `edit.ip_adapter` in docs/settings.md); None to read them by attention, as every model can.
        preview_every: send a `Preview` every so many steps; None for none.
        on_step: called after each sampling step with the step and the latents f c h w, which it may change in place.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Raises:
        TypeError: `inverted` is not what `invert` returned.
        ConfigError: a value is out of range, or does not fit the clip.
        ModelError, ModelNotFoundError: the ControlNet cannot be used.
        Cancelled: `cancel` returned True.
    """
    values = mode_values(mode)
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
        propagated_layers=propagated_layers,
        kept_features=kept_features,
        carry_interval=carry_interval,
        ip_adapter=ip_adapter,
        **values,
    )
    if preview_every is not None:
        check_count("preview_every", preview_every)
    check_interval(settings, inverted.frame_count)
    check_inverted(settings, inverted)
    regions = regions_of(settings) if regions is None else regions
    regions = checked_regions(regions, inverted.prompt, settings.mode)
    check_paints_somewhere(inverted.model, regions, settings.mode)
    with listening(on_event):
        references = checked_references(references, settings)
        notice_missing_triggers(prompt, getattr(inverted.model, "loras", ()))
        source = replace(inverted, model=interruptible(inverted.model, cancel))
        keyframes = mode if isinstance(mode, Keyframes) else None
        made = edit_frames(
            source,
            settings,
            keyframes,
            regions,
            references=references,
            preview_every=preview_every,
            on_step=on_step,
            on_event=on_event,
            cancel=cancel,
        )
        frames = list(made.frames)
    made_at_full_size = keyframes is not None or made.regions is not None
    full = np.stack([frame.image for frame in frames]) if made_at_full_size else None
    masks = [frame.mask for frame in frames if frame.mask is not None]
    return Edited(
        np.stack([frame.decoded for frame in frames]),
        inverted,
        full,
        np.stack(masks) if masks else None,
        tuple(made.found),
    )


def default_steps(inverted: InvertedClip) -> int:
    """How many steps an edit takes unless told otherwise."""
    few_step = inverted.model.schedule.few_step
    return few_step.steps if few_step else inverted.steps or DEFAULTS.steps


def mode_values(mode: ModeSettings) -> dict[str, Any]:
    """The settings of an edit that say which mode it has."""
    if isinstance(mode, Keyframes):  # its images may be in memory, where settings name files
        return {"mode": "keyframes", "keyframes": config.Keyframes(strength=mode.strength)}
    if type(mode) not in MODE_NAMES:
        raise ConfigError(
            f"mode is {mode!r}; expected PnP(), SDEdit(), ControlNet(), FlowEdit(), Instruct() or Keyframes(images)"
        )
    return {"mode": MODE_NAMES[type(mode)], MODE_NAMES[type(mode)]: mode}
