"""The regions of an edit: from settings to a mask per frame, and edited frames put into their source."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokenflow.config import Edit
from tokenflow.config import Region as RegionSettings
from tokenflow.correspondence.base import Correspondence
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.errors import ClipNotFoundError, ConfigError
from tokenflow.events import Cancel, Listener, notice, progress, raise_if_cancelled
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.frames import EditedFrame, kept_part
from tokenflow.pipeline.inversion import source_steps
from tokenflow.pipeline.validation import validated
from tokenflow.pipeline.wiring import keyframe_interval
from tokenflow.propagation.pixels.dense_flow import NeighbourFlow
from tokenflow.regions.by_text import Found, find_by_text
from tokenflow.regions.given import carry_mask, read_masks, scaled
from tokenflow.regions.masks import HALF, feather, grow, paste
from tokenflow.regions.region import LatentRegions, on_latents, union
from tokenflow.regions.words import split_words, without_words
from tokenflow.store.arrays import ArrayFile, temporary_array
from tokenflow.video import Video, clip_files, resize, restore
from tokenflow.video.shots import shots_of

DEFAULTS = RegionSettings(auto=True)

EMPTY = 0.001
"""Of all pixels: a smaller region is said to be empty."""


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
        cuts: the frames of the whole clip at which shots begin.
    """

    video: Video
    indices: Sequence[int]
    cuts: Sequence[int]


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
        share: of all pixels that are inside.
        changed, border_changed: where the model found it, the share of the frames and of their border that the other
            prompt changes.
        everywhere: whether the whole frame is edited instead, since the change is not one of a part of it.
        words, prompt: those of its settings.
    """

    by: str
    share: float
    changed: float | None = None
    border_changed: float | None = None
    everywhere: bool = False
    words: str | None = None
    prompt: str | None = None


def regions_of(edit: Edit) -> Regions:
    """The regions that settings describe."""
    if edit.regions == "auto":
        return "auto"
    return [Region(**dict(each)) for each in edit.regions]


def prompts_of(regions: Iterable[Region]) -> list[str]:
    """The different prompts of regions that have one of their own, in order."""
    return list(dict.fromkeys(region.prompt for region in regions if region.prompt is not None))


def checked_regions(regions: Regions, source_prompt: str, mode: str) -> Regions:
    """The regions, after a check of all that can be checked before any work.

    Args:
        regions: as they were given.
        source_prompt: what the clip shows.
        mode: of the edit.

    Raises:
        ConfigError: a region is described by none or several of mask, words and auto, a value is out of range, its
            words are not in the source prompt, or it has a prompt in the mode that carries edited frames.
        ClipError, ClipNotFoundError: the file of a mask cannot be read.
    """
    if regions == "auto":
        return regions
    if isinstance(regions, Region | RegionSettings | str) or not isinstance(regions, Iterable):
        raise ConfigError(f"expected a list of regions, such as [Region(words='dog')], or 'auto'; got {regions!r}")
    return [_checked(region, source_prompt, mode) for region in regions]


def _checked(region: Any, source_prompt: str, mode: str) -> Region:
    if not isinstance(region, Region | RegionSettings):
        raise ConfigError(f"expected regions to be Region(…) or 'auto'; got {region!r}")
    values = {name: getattr(region, name) for name in RegionSettings.model_fields if name != "mask"}
    has_mask = {} if region.mask is None else {"mask": Path("given")}
    settings = validated(RegionSettings, **values, **has_mask)
    if settings.words is not None:
        without_words(source_prompt, split_words(settings.words))
    if settings.prompt is not None and mode == "keyframes":
        raise ConfigError(
            f"the region's prompt is {settings.prompt!r}, but edit.mode keyframes takes what regions show from the "
            "edited frames; leave it out"
        )
    if isinstance(region.mask, str | PathLike) and not clip_files(Path(region.mask)):
        raise ClipNotFoundError(f"the region's mask: there is nothing at {region.mask} in {Path.cwd()}; check the path")
    return Region(**dict(settings) | {"mask": region.mask})


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
        cancel: asked before every frame that a mask is carried to.
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
        cancel: Cancel | None = None,
    ) -> None:
        self._cancel = cancel
        self._source = source
        self._edit = edit
        self._target = target
        self._correspondence = correspondence
        self._excerpt = excerpt or Excerpt(source.video, range(source.frame_count), source.cuts)
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
            found = self._found([self._target], with_predictions=True)
            if found.everywhere:
                return None, [FoundRegion("auto", 1.0, found.share, found.border_share, everywhere=True)]
            return self._put_together([Region(auto=True)], [self._restored(found)], [found])
        if not regions:
            return None, []
        masks, found_by_text = [], []
        for region in regions:
            found_here = None if region.mask is not None else self._read(region)
            masks.append(self._given(region) if found_here is None else self._restored(found_here))
            found_by_text.append(found_here)
        return self._put_together(list(regions), masks, found_by_text)

    def _read(self, region: Region) -> Found:
        """A region that the model finds."""
        if region.words is None:
            return self._found([self._target], with_predictions=True)
        source = self._source
        rests = [without_words(source.prompt, [phrase]) for phrase in split_words(region.words)]
        return self._found([source.model.condition(rest, size=source.size) for rest in rests], with_predictions=False)

    def _found(self, others: Sequence[Conditioning], *, with_predictions: bool) -> Found:
        source = self._source
        return find_by_text(
            source,
            source_steps(source),
            others,
            self._correspondence,
            self._keyframes(),
            self._edit.batch_size,
            with_predictions=with_predictions,
            on_event=self._on_event,
        )

    def _keyframes(self) -> list[int]:
        """One frame per keyframe interval, and both ends of each shot."""
        interval = keyframe_interval(self._edit, self._source.frame_count)
        counts = {shot: -(-(len(shot) - 1) // interval) + 1 for shot in self._source.shots}
        return [
            shot[place]
            for shot, count in counts.items()
            for place in np.linspace(0, len(shot) - 1, count).round().astype(int).tolist()
        ]

    def _restored(self, found: Found) -> Masks:
        """Masks at the working size, brought back to the source's."""
        source = self._source
        return lambda index: _as_image(found.masks[index], restore, *source.video.size, source.resize)

    def _given(self, region: Region) -> Masks:
        """Masks that were given."""
        video, indices = self._excerpt.video, self._excerpt.indices
        masks = read_masks(region.mask, video)
        width, height = video.size
        check_mask_count(region, masks, len(video))
        if region.mask_frame is not None:
            carried = self._carried(scaled(masks[0], width, height), region.mask_frame, video)
            return lambda index: kept_part(carried[indices[index]], self._source)
        one = len(masks) == 1
        return lambda index: kept_part(scaled(masks[0 if one else indices[index]], width, height), self._source)

    def _carried(self, mask: np.ndarray, frame: int, video: Video) -> ArrayFile:
        """The mask of one frame (H W uint8) carried to all frames of its shot; nothing is inside in others."""
        carried = temporary_array((len(video), *mask.shape), np.uint8, self._folder)
        shots = shots_of(len(video), self._excerpt.cuts)
        shot = next(each for each in shots if frame in each)
        for index in set(range(len(video))) - set(shot):
            carried[[index]] = np.zeros_like(mask)[None]
        if len(shots) > 1:
            notice(
                f"the mask of frame {frame} holds in its shot only, frames {shot[0]} to {shot[-1]}; give a mask of a "
                "frame of each other shot that is to change"
            )
        images = (each.image for each in islice(video, shot.start, shot.stop))
        flow = NeighbourFlow(images, len(shot), video.size, self._folder)
        with progress("region", len(shot), self._on_event) as advance:
            for index, moved in carry_mask(mask, frame - shot.start, flow, len(shot)):
                raise_if_cancelled(self._cancel)
                carried[[shot[index]]] = moved[None]
                advance(1)
        return carried

    def _put_together(
        self, regions: list[Region], masks: list[Masks], found_by_text: Sequence[Found | None]
    ) -> tuple[ClipRegions, list[FoundRegion]]:
        source = self._source
        prompts = prompts_of(regions)
        numbers = [0 if region.prompt is None else 1 + prompts.index(region.prompt) for region in regions]
        size = kept_part(np.empty(source.video.size[::-1]), source).shape
        stored = temporary_array((source.frame_count, *size), np.uint8, self._folder)
        areas: list[list[float]] = []

        def frames() -> Iterator[list[np.ndarray]]:
            """The masks of each frame at the working size; those at the source's are stored on the way."""
            for index in range(source.frame_count):
                alphas = [_alpha(region, mask(index)) for region, mask in zip(regions, masks, strict=True)]
                areas.append([float((each > HALF).mean()) for each in alphas])
                stored[[index]] = (union(alphas) * 255).round().astype(np.uint8)[None]
                yield [_as_working(each, source) for each in alphas]

        clean = source.latents(source.model.schedule.clean, [0])
        latents = on_latents(frames(), numbers, (clean.shape[-2], clean.shape[-1]))
        shares = np.mean(areas, 0).tolist()
        found = [_described(*each) for each in zip(regions, shares, found_by_text, strict=True)]
        return ClipRegions(latents, stored, tuple(prompts)), found


def check_mask_count(region: Region, masks: Sized, frame_count: int) -> None:
    """Check that a region has one mask per frame or one for all, and one of a frame of the clip if it is carried.

    Raises:
        ConfigError: it has not.
    """
    count, frame = len(masks), region.mask_frame
    if frame is not None and count != 1:
        raise ConfigError(f"the region has a mask_frame, but its mask has {count} frames; expected one image")
    if frame is not None and frame >= frame_count:
        raise ConfigError(
            f"the region's mask_frame is {frame}, but the clip has {frame_count} frames; expected 0 to "
            f"{frame_count - 1}"
        )
    if count not in (1, frame_count):
        raise ConfigError(
            f"the region's mask has {count} frames but the clip has {frame_count}; provide one per frame, or one "
            "for all"
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


def _described(region: Region, share: float, found: Found | None) -> FoundRegion:
    """What the report says of a region; with a notice where it is empty."""
    by = "auto" if region.auto else "mask" if region.words is None else "words"
    if share < EMPTY:
        words = f" {region.words!r}" if region.words else ""
        notice(
            f"the region by {by}{words} takes {share:.2%} of the frames, so the edit can change hardly anything; try "
            "edit.regions.grow, other words or a mask, or edit the whole frame: edit.regions=[]"
        )
    changed, border = (None, None) if found is None else (found.share, found.border_share)
    return FoundRegion(by, share, changed, border, words=region.words, prompt=region.prompt)
