"""find_regions(): what an edit with these regions may change, before it is made."""

from dataclasses import replace
from typing import Literal

import numpy as np

from tokenflow.config import Edit
from tokenflow.events import Cancel, Listener, listening
from tokenflow.models.interruptible import interruptible
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.regions import RegionFinder, Regions, checked_regions
from tokenflow.pipeline.validation import check_type, validated
from tokenflow.pipeline.wiring import build_correspondence, build_prompt

DEFAULTS = Edit(prompt="")


def find_regions(
    inverted: InvertedClip,
    prompt: str,
    regions: Regions,
    *,
    batch_size: int = DEFAULTS.batch_size,
    correspondence: Literal["flow", "nearest"] = DEFAULTS.correspondence,
    keyframe_interval: int | None = DEFAULTS.keyframe_interval,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> np.ndarray | None:
    """The masks that `edit` finds for the same regions and settings, without the edit.

    Args:
        inverted: what `invert` returned.
        prompt: of the edit; only regions that are found by themselves depend on it.
        regions: as `edit` takes them.
        batch_size: frames per network call.
        correspondence: by optical `flow`, or by the `nearest` diffusion features.
        keyframe_interval: frames per keyframe; None for 4, or the whole clip if it is shorter.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Returns:
        All regions together, f H W uint8 at the source's size, 255 inside; None for the whole frame.

    Raises:
        TypeError: `inverted` is not what `invert` returned.
        ConfigError: a value is out of range, or a region does not fit the clip.
        ClipError, ClipNotFoundError: a mask cannot be read.
        Cancelled: `cancel` returned True.
    """
    check_type("find_regions", inverted, InvertedClip, "invert(clip, model, prompt) makes one")
    settings = validated(
        Edit,
        prompt=prompt,
        batch_size=batch_size,
        correspondence=correspondence,
        keyframe_interval=keyframe_interval,
    )
    regions = checked_regions(regions, inverted.prompt, settings.mode)
    with listening(on_event):
        source = replace(inverted, model=interruptible(inverted.model, cancel))
        target = build_prompt(source.model, prompt or source.prompt, settings.guidance_scale, source.size)
        with build_correspondence(source, settings) as pairwise:
            finder = RegionFinder(source, settings, target, pairwise, on_event=on_event, cancel=cancel)
            found, _ = finder.find(regions)
    return None if found is None else found.masks[range(source.frame_count)]
