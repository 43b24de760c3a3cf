"""The regions of an edit: from settings to a mask per frame, and edited frames put into their source."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokenflow.config import Edit
from tokenflow.config import Region as RegionSettings
from tokenflow.correspondence.base import Correspondence
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.errors import ConfigError
from tokenflow.events import Listener
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.frames import EditedFrame, kept_part
from tokenflow.pipeline.inversion import source_steps
from tokenflow.pipeline.validation import validated
from tokenflow.pipeline.wiring import keyframe_interval
from tokenflow.propagation.pixels.dense_flow import DenseFlow
from tokenflow.regions.by_text import Found, find_by_text
from tokenflow.regions.given import carry_mask, read_masks, scaled
from tokenflow.regions.masks import feather, grow, paste
from tokenflow.regions.region import LatentRegions, on_latents, union
from tokenflow.regions.words import split_words, without_words
from tokenflow.store.arrays import ArrayFile, temporary_array
from tokenflow.video import Video, resize, restore

DEFAULTS = RegionSettings(auto=True)


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the clip that an edit may change. Outside of all regions, frames stay as they are.

        tokenflow.Region(words="dog")
        tokenflow.Region(mask=image, mask_frame=12, grow=8)

    Exactly one of `mask`, `words` and `auto` says where it is.

    Attributes:
        mask: white inside: a path, a `Video`, a Pillow image, or an array H W or f H W (bool, uint8, or floating point
            in [0, 1]). One image is for all frames.
        mask_frame: the frame that the one image is of; it is carried to all others along the motion. Choose one that
            shows the whole of what is masked.
        words: words of the source prompt, with commas between several.
        auto: where the edit's prompt changes something.
        invert: take what is outside instead.
        grow: pixels of the source by which it reaches further; less far below 0.
        feather: pixels of the source over which the edit fades into the source, outside of it.
        prompt: what it should show; None for the edit's prompt.
    """

    mask: Any = field(default=None, repr=False)
    mask_frame: int | None = None
    words: str | None = None
    auto: bool = False
    invert: bool = False
    grow: float = DEFAULTS.grow
    feather: float = DEFAULTS.feather
    prompt: str | None = None


Masks = Callable[[int], np.ndarray]
"""Frame index -> H W uint8 at the source's size, 255 inside."""

Regions = Sequence[Region] | Literal["auto"]


@dataclass(frozen=True)
class Excerpt:
    """Some frames of a clip, edited by themselves.

    Attributes:
        video: the whole clip.
        indices: which frames of it.
    """

    video: Video
    indices: Sequence[int]


@dataclass(frozen=True, eq=False)
class ClipRegions:
    """The regions of a clip, for every frame.

    Attributes:
        latents: on the grid of latents.
        masks: all regions together, f H W uint8 at the source's size, 255 inside.
        prompts: those of regions that have one of their own; `latents` counts them from 1, and the edit's is 0.
    """

    latents: LatentRegions
    masks: ArrayFile
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class FoundRegion:
    """How a region was found, for the report.

    Attributes:
        by: `mask`, `auto` or `words`.
        share: of all pixels.
        border_share: of the pixels along the border of the frames, where the model found it.
        everywhere: whether the whole frame is edited instead, since the change is not one of a part of it.
        words, prompt: those of its settings.
    """

    by: str
    share: float
    border_share: float | None = None
    everywhere: bool = False
    words: str | None = None
    prompt: str | None = None


def regions_of(edit: Edit) -> Regions:
    """The regions that settings describe."""
    if edit.regions == "auto":
        return "auto"
    return [Region(**dict(each)) for each in edit.regions]


def check_regions(regions: Regions, source_prompt: str) -> None:
    """Check what can be checked before any work.

    Raises:
        ConfigError: a region is described by none or several of mask, words and auto, a value is out of range, or its
            words are not in the source prompt.
    """
    if regions == "auto":
        return
    for region in regions:
        if not isinstance(region, Region):
            raise ConfigError(f"expected regions to be Region(…) or 'auto'; got {region!r}")
        values = {name: getattr(region, name) for name in RegionSettings.model_fields if name != "mask"}
        has_mask = {} if region.mask is None else {"mask": Path("given")}
        validated(RegionSettings, **values, **has_mask)
        if region.words is not None:
            without_words(source_prompt, split_words(region.words))


class RegionFinder:
    """Finds the regions of one edit.

    Args:
        source: the clip.
        edit: the settings.
        target: the edit's prompt, one branch.
        correspondence: where tokens lie in other frames.
        excerpt: where the clip is a part of another one, of which masks are.
        folder: for temporary files.
        on_event: called with each event.
    """

    def __init__(
        self,
        source: InvertedClip,
        edit: Edit,
        target: Conditioning,
        correspondence: Correspondence,
        *,
        excerpt: Excerpt | None = None,
        folder: Path | None = None,
        on_event: Listener | None = None,
    ) -> None:
        self._source = source
        self._edit = edit
        self._target = target
        self._correspondence = correspondence
        self._excerpt = excerpt or Excerpt(source.video, range(source.frame_count))
        self._folder = folder
        self._on_event = on_event

    def find(self, regions: Regions) -> tuple[ClipRegions | None, list[FoundRegion]]:
        """The regions for every frame, None where the whole frame is edited; and how each was found.

        Raises:
            ConfigError: a mask has another number of frames than the clip.
            ClipError, ClipNotFoundError: a mask cannot be read.
            OutputError: temporary files cannot be written.
        """
        if regions == "auto":
            found = self._found(self._target, with_predictions=True)
            if found.everywhere:
                return None, [FoundRegion("auto", found.share, found.border_share, everywhere=True)]
            return self._put_together([Region(auto=True)], [self._restored(found)])
        return self._put_together(list(regions), [self._masks(each) for each in regions]) if regions else (None, [])

    def _masks(self, region: Region) -> Masks:
        """The masks of one region, by frame, at the source's size."""
        if region.words is not None:
            rest = without_words(self._source.prompt, split_words(region.words))
            other = self._source.model.condition(rest, size=self._source.size)
            return self._restored(self._found(other, with_predictions=False))
        if region.auto:
            return self._restored(self._found(self._target, with_predictions=True))
        return self._given(region)

    def _found(self, other: Conditioning, *, with_predictions: bool) -> Found:
        source = self._source
        return find_by_text(
            source,
            source_steps(source),
            other,
            self._correspondence,
            self._keyframes(),
            self._edit.batch_size,
            with_predictions=with_predictions,
            on_event=self._on_event,
        )

    def _keyframes(self) -> list[int]:
        """One frame per keyframe interval, and both ends of the clip."""
        count = self._source.frame_count
        intervals = -(-(count - 1) // keyframe_interval(self._edit, count))
        return sorted({*np.linspace(0, count - 1, intervals + 1).round().astype(int).tolist()})

    def _restored(self, found: Found) -> Masks:
        """Masks at the working size, brought back to the source's."""
        source = self._source
        return lambda index: _as_image(found.masks[index], restore, *source.video.size, source.resize)

    def _given(self, region: Region) -> Masks:
        """Masks that were given."""
        video, indices = self._excerpt.video, self._excerpt.indices
        masks = read_masks(region.mask, video)
        width, height = video.size
        if region.mask_frame is not None:
            check_mask_frame(region.mask_frame, len(masks), len(video))
            mask, flow = scaled(masks[0], width, height), DenseFlow(video.frames, self._folder)
            frame = region.mask_frame
            return lambda index: kept_part(carry_mask(mask, frame, indices[index], flow), self._source)
        if len(masks) not in (1, len(video)):
            raise ConfigError(
                f"the region's mask has {len(masks)} frames but the clip has {len(video)}; provide one per frame, or "
                "one for all"
            )
        one = len(masks) == 1
        return lambda index: kept_part(scaled(masks[0 if one else indices[index]], width, height), self._source)

    def _put_together(self, regions: list[Region], masks: list[Masks]) -> tuple[ClipRegions, list[FoundRegion]]:
        source = self._source
        prompts = list(dict.fromkeys(region.prompt for region in regions if region.prompt is not None))
        numbers = [0 if region.prompt is None else 1 + prompts.index(region.prompt) for region in regions]
        size = kept_part(np.empty(source.video.size[::-1]), source).shape
        stored = temporary_array((source.frame_count, *size), np.uint8, self._folder)
        areas: list[list[float]] = []

        def frames() -> Iterator[list[np.ndarray]]:
            """The masks of each frame at the working size; those at the source's are stored on the way."""
            for index in range(source.frame_count):
                alphas = [_alpha(region, mask(index)) for region, mask in zip(regions, masks, strict=True)]
                areas.append([float(each.mean()) for each in alphas])
                stored[[index]] = (union(alphas) * 255).round().astype(np.uint8)[None]
                yield [_as_working(each, source) for each in alphas]

        clean = source.latents(source.model.schedule.clean, [0])
        latents = on_latents(frames(), numbers, (clean.shape[-2], clean.shape[-1]))
        shares = np.mean(areas, 0).tolist()
        found = [
            FoundRegion(_kind(region), share, words=region.words, prompt=region.prompt)
            for region, share in zip(regions, shares, strict=True)
        ]
        return ClipRegions(latents, stored, tuple(prompts)), found


def check_mask_frame(frame: int, masks: int, frame_count: int) -> None:
    """Check that one image is given, of a frame that the clip has.

    Raises:
        ConfigError: there are several, or there is no such frame.
    """
    if masks != 1:
        raise ConfigError(f"the region has a mask_frame, but its mask has {masks} frames; expected one image")
    if frame >= frame_count:
        raise ConfigError(
            f"the region's mask_frame is {frame}, but the clip has {frame_count} frames; expected 0 to "
            f"{frame_count - 1}"
        )


def pasted(
    source: InvertedClip, regions: ClipRegions | None, frames: Iterator[EditedFrame], shown: Sequence[int]
) -> Iterator[EditedFrame]:
    """Edited frames inside of the regions, and the source's own pixels outside; `shown` says which frames these are."""
    if regions is None:
        yield from frames
        return
    width, height = source.size
    originals = (each for index, each in enumerate(source.video) if index in set(shown))
    for index, frame, original in zip(shown, frames, originals, strict=True):
        mask = regions.masks[index]
        decoded_mask = _as_image(mask, resize, width, height, "fit" if source.resize == "fill" else source.resize)
        yield EditedFrame(
            paste(frame.decoded, source.frames[index], decoded_mask),
            paste(frame.image, kept_part(original.image, source), mask),
            decoded_mask,
            mask,
        )


def _alpha(region: Region, mask: np.ndarray) -> np.ndarray:
    """A region's mask H W in [0, 1], from H W uint8."""
    inside = mask.astype(np.float32) / 255
    return feather(grow(1 - inside if region.invert else inside, region.grow), region.feather)


def _as_working(alpha: np.ndarray, source: InvertedClip) -> np.ndarray:
    """A mask H W in [0, 1] at the working size, not 0 wherever it touches."""
    mode = "fit" if source.resize == "fill" else source.resize
    return _as_image((alpha * 255).round().astype(np.uint8), resize, *source.size, mode).astype(np.float32) / 255


def _as_image(mask: np.ndarray, change: Callable[..., np.ndarray], *arguments: Any) -> np.ndarray:
    """A mask (H W uint8) through a function for images."""
    return change(np.repeat(mask[..., None], 3, axis=2), *arguments)[..., 0]


def _kind(region: Region) -> str:
    return "auto" if region.auto else "mask" if region.words is None else "words"
