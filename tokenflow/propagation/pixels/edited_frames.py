"""Edited frames carried through a clip, in pixels.

What is carried depends on what the edit does:

- **everywhere**: it changes most of the frame, as light, style and background edits do. Its difference to the source is
  carried along optical flow.
- **surface**: it changes a part of something that moves as a whole, as glasses on a face do. The same.
- **tint**: it changes a part and keeps that part's edges, as edits of a material do. The same, and where the part comes
  into view, the difference is continued.
- **shape**: it gives a part other edges. That part is cut out and carried as a layer of its own, with the motion of the
  object that it replaces; the background that the object hid comes from frames that show it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from tokenflow.diffusion.latents import Frames
from tokenflow.propagation.pixels.dense_flow import DenseFlow
from tokenflow.propagation.pixels.filling import fill_smoothly
from tokenflow.propagation.pixels.layers import Layers
from tokenflow.propagation.pixels.matting import CROSS, alpha_of, fill_holes, without_specks
from tokenflow.propagation.pixels.rigid_motion import is_inside, warp

Kind = Literal["everywhere", "surface", "tint", "shape"]

CHANGED = 16.0
"""Difference of the most different channel, of 255, above which a pixel counts as changed."""

JOINED = 0.1
"""Of the longer side: gap between changed parts up to which they are one object's."""

LARGEST_PART = 0.6
"""Share of the frame above which a change counts as one of the whole frame."""

SAME_EDGES = 0.75
"""Share of a changed region that has the source's edges, above which the edit tints it."""

REMOVED, SEEN = 0.04, 0.055
"""Of the longer side: width of a strip along the outline that is removed with an object, since codecs smear it there;
and of the one outside of which the background counts as seen."""

SOFT = 0.7
"""Pixels over which a background that was put together fades into the frame."""

FAINT = 1e-3
"""Weight of a keyframe at places that it does not show."""


@dataclass(frozen=True)
class CarriedFrame:
    """A frame made from edited ones.

    Attributes:
        image: H W 3 uint8.
        certain: H W in [0, 1]: whether an edited frame or the source shows what is there.
    """

    image: np.ndarray
    certain: np.ndarray


@dataclass(frozen=True)
class Edit:
    """An edited frame beside its source.

    Attributes:
        source, edited: H W 3 float32, 0 to 255.
    """

    source: np.ndarray
    edited: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """What the edit adds, H W 3."""
        return self.edited - self.source

    @property
    def changed(self) -> np.ndarray:
        """H W bool: what it changes, with what that encloses."""
        changed = without_specks(np.abs(self.difference).max(-1) > CHANGED).astype(np.uint8)
        return fill_holes(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, CROSS) > 0)

    @property
    def region(self) -> np.ndarray:
        """H W bool: what it changes, with the gaps between, since an object may keep some of its colours."""
        side = round(JOINED * max(self.source.shape)) | 1
        joined = cv2.morphologyEx(self.changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
        return fill_holes(joined > 0)


def carry(
    frames: Frames, edited: Mapping[int, np.ndarray], folder: Path | None = None
) -> tuple[Kind, Iterator[CarriedFrame]]:
    """Carry edited frames to all frames of a clip.

    Args:
        frames: f H W 3 uint8.
        edited: by frame index, H W 3 uint8; at least one. These come back as they are.
        folder: where flow is kept on disk.

    Returns:
        What kind of edit it is, and the frames in order.

    Raises:
        OutputError: the folder cannot be written to.
    """
    edits = {frame: Edit(frames[frame].astype(np.float32), image.astype(np.float32)) for frame, image in edited.items()}
    kind = kind_of(list(edits.values()))
    layers = None if kind == "everywhere" else Layers(frames, {frame: edit.region for frame, edit in edits.items()})
    if layers is not None and not layers.separate:
        kind, layers = "surface", None
    if layers is None:
        carrier: Carrier = Differences(frames, edits, folder)
    else:
        carrier = ObjectLayer(frames, edits, layers) if kind == "shape" else Tint(frames, edits, layers, folder)

    def carried() -> Iterator[CarriedFrame]:
        for index in range(len(frames)):
            if index in edited:
                yield CarriedFrame(edited[index], np.ones(frames.shape[1:3], np.float32))
            else:
                image, certain = carrier(index, closeness(index, sorted(edits)))
                yield CarriedFrame(np.clip(image, 0, 255).round().astype(np.uint8), certain.astype(np.float32))

    return kind, carried()


def kind_of(edits: Sequence[Edit]) -> Kind:
    """What some edited frames of one clip do, apart from how it moves: everywhere, tint or shape."""
    regions = [edit.changed for edit in edits]
    if any(_share_of_border(region) > 0.5 or region.mean() > LARGEST_PART for region in regions):
        return "everywhere"
    kept = [same_edges(edit)[region].mean() for edit, region in zip(edits, regions, strict=True) if region.any()]
    return "shape" if kept and np.mean(kept) < SAME_EDGES else "tint"


def same_edges(edit: Edit) -> np.ndarray:
    """H W in [0, 1]: 1 where an edit has the source's edges, 0 where it has others; by correlation of gradients."""

    def around(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (0, 0), 2.0) + 4.0  # a flat place has the same edges as another

    a, b = _edge_strength(edit.edited), _edge_strength(edit.source)
    correlation = around(a * b) / np.sqrt(around(a * a) * around(b * b))
    return smooth_step(correlation, 0.6, 0.85)


def _edge_strength(image: np.ndarray) -> np.ndarray:
    """Length of the gradient of all channels, H W."""
    soft = cv2.GaussianBlur(image, (0, 0), 0.7)
    squares = [np.square(cv2.Sobel(soft, cv2.CV_32F, *axis) / 8).sum(-1) for axis in ((1, 0), (0, 1))]
    return np.sqrt(squares[0] + squares[1])


def edges_kept(source: np.ndarray, edited: np.ndarray) -> float:
    """Share of a source frame's edges that an edited one has, too, in [0, 1]; both H W 3 uint8."""
    before, after = source.astype(np.float32), edited.astype(np.float32)
    weights = _edge_strength(before)
    return float((same_edges(Edit(before, after)) * weights).sum() / max(float(weights.sum()), 1e-6))


def closeness(index: int, keyframes: Sequence[int]) -> dict[int, float]:
    """The keyframe before a frame and the one after, where there are such, with weights that add up to 1."""
    before = max((each for each in keyframes if each < index), default=None)
    after = min((each for each in keyframes if each > index), default=None)
    if before is None or after is None:
        return {keyframe: 1.0 for keyframe in (before, after) if keyframe is not None}
    share = (index - before) / (after - before)
    return {before: 1 - share, after: share}


class Carrier(Protocol):
    """Makes one frame from the edited ones around it: its image, H W 3 float, and how certain it is, H W in [0, 1]."""

    def __call__(self, index: int, weights: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
        """The frame at an index, with the weight of each edited frame."""
        ...


class Differences:
    """Adds what edited frames add to their source, carried along optical flow."""

    def __init__(self, frames: Frames, edits: Mapping[int, Edit], folder: Path | None) -> None:
        self._frames = frames
        self._edits = edits
        self._flow = DenseFlow(frames, folder)

    def __call__(self, index: int, weights: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
        """The frame with the difference."""
        blend, certain = Blend(), np.zeros(self._frames.shape[1:3], np.float32)
        for keyframe, weight in weights.items():
            flow, confidence = self._flow.between(index, keyframe)
            blend.add(warp(self._edits[keyframe].difference, flow), weight * (confidence + FAINT))
            certain = np.maximum(certain, confidence)
        return self._frames[index] + blend.mean, certain


class ObjectLayer:
    """Cuts an edited object out of its frames and lays it over the background of every other frame.

    Its colours are stored multiplied by its share of each pixel, without what the background adds, so that its outline
    mixes with whatever lies behind it elsewhere (Porter & Duff, SIGGRAPH 1984).
    """

    def __init__(self, frames: Frames, edits: Mapping[int, Edit], layers: Layers) -> None:
        self._frames = frames
        self._layers = layers
        self._cutouts = {frame: self._cut_out(frame, edit) for frame, edit in edits.items()}

    def __call__(self, index: int, weights: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
        """The object over the background; where no edited frame shows it, the source's, with the nearest difference."""
        layers = self._layers
        _, known = layers.background(index)
        own, behind = layers.object_mask(index), self._without_object(index)
        colours, shares, tints, backgrounds, shown = Blend(), Blend(), Blend(), Blend(), np.zeros(own.shape, bool)
        for keyframe, weight in weights.items():
            cutout = self._cutouts[keyframe]
            flow = layers.background_flow(index, keyframe)
            seen = is_inside(flow) * (warp(cutout.background_seen, flow) + FAINT)
            backgrounds.add(warp(cutout.background_difference, flow), weight * (seen + FAINT**2))
            flow = layers.object_flow(index, keyframe)
            inside = is_inside(flow)
            weighted = weight * (inside + FAINT**2)
            colours.add(inside[..., None] * warp(cutout.colours, flow, cv2.INTER_CUBIC), weighted)
            shares.add((inside * warp(cutout.share, flow, cv2.INTER_CUBIC).clip(0, 1))[..., None], weighted)
            tints.add(warp(cutout.difference, flow), weighted)
            shown |= inside
        image = colours.mean + (1 - shares.mean) * (behind + backgrounds.mean)
        tinted = self._frames[index] + tints.mean
        lost = (own * ~shown)[..., None]  # H W 1
        uncovered = own * (1 - shares.mean[..., 0]) * ~known
        return lost * tinted + (1 - lost) * image, (1 - lost[..., 0]) * (1 - uncovered)

    def continued(self, index: int, weights: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
        """What edited frames do not show of the object: its source with the nearest difference, and where, H W bool."""
        own, tints, shown = self._layers.object_mask(index), Blend(), np.zeros(self._frames.shape[1:3], bool)
        for keyframe, weight in weights.items():
            flow = self._layers.object_flow(index, keyframe)
            inside = is_inside(flow)
            tints.add(warp(self._cutouts[keyframe].difference, flow), weight * (inside + FAINT**2))
            shown |= inside
        return self._frames[index] + own[..., None] * tints.mean, ~shown

    def _without_object(self, index: int) -> np.ndarray:
        """A source frame with the background in place of the object, H W 3."""
        background, _ = self._layers.background(index)
        own = self._layers.object_mask(index)
        around = cv2.GaussianBlur(cv2.dilate(own, self._layers.square(REMOVED)), (0, 0), SOFT)  # codecs smear outlines
        removed = np.maximum(own, around)[..., None]
        return self._frames[index] * (1 - removed) + background * removed

    def _cut_out(self, frame: int, edit: Edit) -> "Cutout":
        behind, own = self._without_object(frame), self._layers.object_mask(frame)
        difference = np.abs(edit.edited - behind).max(-1)
        share = alpha_of(difference, self._layers.region(frame))
        seen = 1 - cv2.dilate(np.maximum(share, own), self._layers.square(SEEN))
        background_difference = fill_smoothly(edit.difference, seen)
        colours = edit.edited - (1 - share[..., None]) * (behind + background_difference)
        difference = fill_smoothly(edit.difference, np.minimum(share, own) > 0.9)
        return Cutout(share, colours, difference, seen, background_difference)


@dataclass(frozen=True)
class Cutout:
    """An edited object, cut out of its frame.

    Attributes:
        share: H W, the object's part of each pixel.
        colours: H W 3, its colours times its share.
        difference: H W 3, what the edit adds to the source's object, continued beyond it.
        background_seen: H W, how much of the background is seen in both source and edit.
        background_difference: H W 3, what the edit adds there, continued behind the object.
    """

    share: np.ndarray
    colours: np.ndarray
    difference: np.ndarray
    background_seen: np.ndarray
    background_difference: np.ndarray


class Tint:
    """Adds differences along flow, and continues them on parts of the object that no edited frame shows."""

    def __init__(self, frames: Frames, edits: Mapping[int, Edit], layers: Layers, folder: Path | None) -> None:
        self._differences = Differences(frames, edits, folder)
        self._object = ObjectLayer(frames, edits, layers)

    def __call__(self, index: int, weights: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
        """The frame with the difference."""
        image, _ = self._differences(index, weights)
        continued, lost = self._object.continued(index, weights)
        image[lost] = continued[lost]
        return image, np.ones(lost.shape, np.float32)


class Blend:
    """A weighted mean of images, added up one by one."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._weights = np.zeros(())

    def add(self, image: np.ndarray, weight: np.ndarray) -> None:
        """Add an image, H W c, with a weight per pixel, H W."""
        weighted = weight[..., None] * image
        self._sum = weighted if self._sum is None else self._sum + weighted
        self._weights = self._weights + weight

    @property
    def mean(self) -> np.ndarray:
        """The mean, H W c."""
        if self._sum is None:
            raise ValueError("expected images to be added before their mean is asked for")
        return self._sum / self._weights[..., None]


def _share_of_border(mask: np.ndarray) -> float:
    return float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())


def smooth_step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, and smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
