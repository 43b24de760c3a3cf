"""What the settings of an edit require of the number of frames, checked as soon as these are counted."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenflow.config import Clip, Config, Edit, LoRA
from tokenflow.errors import ConfigError
from tokenflow.events import notice
from tokenflow.models.model import Model
from tokenflow.models.prompt_weights import plain_text
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.keyframes import given_images, keyframes_of
from tokenflow.pipeline.masks import count_masks
from tokenflow.pipeline.regions import Region, Regions, check_mask_count, regions_of
from tokenflow.regions.given import open_masks
from tokenflow.video import Video


def check_interval(edit: Edit, frame_count: int) -> None:
    """Check that the keyframe interval fits a clip of so many frames.

    Raises:
        ConfigError: it is longer than the clip.
    """
    interval = edit.keyframe_interval or 1
    if edit.propagation == "tokenflow" and interval > frame_count:
        raise ConfigError(
            f"edit.keyframe_interval is {interval} but the clip has {frame_count} frames; expected 1 to "
            f"{frame_count}, or null, which adapts to the clip"
        )


def check_inverted(edit: Edit, source: InvertedClip) -> None:
    """Check that a clip was inverted, where the mode needs it.

    Raises:
        ConfigError: it was not.
    """
    if edit.needs_inversion and source.steps == 0 and source.model.schedule.few_step is None:
        raise ConfigError(
            f"edit.mode {edit.mode} needs an inversion, but this clip was inverted in 0 steps; invert it in more, "
            "or use the mode flowedit, or the mode instruct with a model made for it, which need none"
        )


def check_paints_somewhere(model: Model, regions: Regions, mode: str) -> None:
    """Check that a model that paints into images is told where; filling in what keyframes leave open needs no region.

    Raises:
        ConfigError: it is not.
    """
    if model.inpaints and not regions and mode != "keyframes":
        raise ConfigError(
            "the model is an inpainting model, which paints inside of a region, and edit.regions is empty; set it to "
            "where the clip may change, such as [{words: dog}], [{mask: mask.png}] or auto (docs/regions.md), or set "
            "model.path to a text-to-image model"
        )


def check_masks(mask: Path | None, part: Clip, frame_count: int) -> None:
    """Check that there is a mask for each of so many frames, or one for all.

    Raises:
        ConfigError: there is another number of masks.
        ClipError, ClipNotFoundError: the mask cannot be read.
    """
    masks = None if mask is None else count_masks(mask, part)
    if masks not in (None, frame_count):
        raise ConfigError(
            f"metrics.mask has {masks} frames but the clip has {frame_count}; provide one per frame, or one for all"
        )


def check_sampled(edit: Edit, what: str) -> None:
    """Check that an edit samples every frame, as trials and sheets of seeds need.

    Raises:
        ConfigError: it carries given frames instead.
    """
    if edit.mode == "keyframes":
        raise ConfigError(
            f"edit.mode keyframes has no {what}: it carries the given frames through the whole clip, mostly without "
            "sampling; run the edit itself"
        )


def notice_missing_triggers(prompt: str, loras: Sequence[LoRA]) -> None:
    """A notice for each LoRA none of whose trigger words is in the prompt of an edit."""
    said = plain_text(prompt)
    for lora in loras:
        if lora.triggers and not any(_has_words(said, words) for words in lora.triggers):
            notice(
                f"edit.prompt has none of the words that the LoRA {lora.path!r} was trained with; add one of "
                f"{', '.join(lora.triggers)}"
            )


def _has_words(text: str, words: str) -> bool:
    """Whether a text has these words, in any case, and not as a part of others."""
    return re.search(rf"(?<!\w){re.escape(words.strip())}(?!\w)", " ".join(text.split()), re.IGNORECASE) is not None


def frame_count_check(config: Config, clip: Video) -> Callable[[int], None]:
    """A check of interval, masks and edited frames for one configuration and its clip."""

    def check(frame_count: int) -> None:
        check_interval(config.edit, frame_count)
        check_masks(config.metrics.mask, config.clip, frame_count)
        for region in regions_of(config.edit):
            if isinstance(region, Region) and region.mask is not None:
                check_mask_count(region, open_masks(region.mask, clip), frame_count)
        keyframes = keyframes_of(config.edit)
        if keyframes is not None:
            given_images(keyframes, clip.size, frame_count)

    return check
