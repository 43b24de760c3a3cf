"""Regions that the model finds: where its source would be read or predicted differently under another text.

Two maps tell where. *Attention*: how much the cross-attention of each place would change. *Prediction*: how much the
prediction does (DiffEdit: Couairon et al., ICLR 2023). The first finds what is there, the second also where something
new would be. Both are read on some keyframes and carried to all frames as an edit is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenflow.correspondence.base import Correspondence
from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.diffusion.schedules import Step
from tokenflow.events import Listener, progress
from tokenflow.modes.source import InvertedClip
from tokenflow.propagation.pixels.matting import without_specks
from tokenflow.propagation.warp import Warp

ATTENTION_AT = 0.2
"""Fraction of the steps that is left where attention is read: enough noise to blur texture, but not shapes."""

PREDICTIONS_AT = (0.6, 0.4)
"""The same for predictions, which differ where the layout is decided."""

EVERYWHERE_AT_BORDER, EVERYWHERE = 0.3, 0.75
"""Share of the frame's border, and of the frame, above which a change is one of the whole frame."""

SHOWN, CHANGED = 0.6, 0.55
"""Of attention, and of the mean of attention and prediction, between outside at 0 and inside at 1: where a region ends.
Chosen on drawn clips, by their true masks."""

SPECK, HOLE = 0.002, 0.005
"""Of the frame: smaller parts of a region, and smaller holes in it, are noise."""

GAP = 0.04
"""Of the longer side: inlets of a region that are narrower are closed."""

HALF = 0.5
"""Where a map counts as changed when the extent of a change is judged, which a tight region would understate."""

QUANTILE = 0.99

EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class Found:
    """A region that the model found.

    Attributes:
        masks: f H W uint8 at the working size, 255 inside.
        share, border_share: of all places, and of those along the border of the frames, how many one of the maps says
            would change.
    """

    masks: np.ndarray
    share: float
    border_share: float

    @property
    def everywhere(self) -> bool:
        """Whether the change is one of the whole frame, such as of light, style or background."""
        return self.border_share > EVERYWHERE_AT_BORDER or self.share > EVERYWHERE


def attention_change(source: InvertedClip, steps: Sequence[Step], other: Conditioning, indices: list[int]) -> Tensor:
    """How much of the source's cross-attention another text would change, f h w."""
    level = step_with_left(steps, ATTENTION_AT)
    return source.model.text_change(source.latents(level.at, indices), level.at, source.conditioning, other).cpu()


def prediction_change(source: InvertedClip, steps: Sequence[Step], other: Conditioning, indices: list[int]) -> Tensor:
    """How much the prediction for the source would change under another text, l f h w, at some levels."""
    both = stack([source.conditioning, other])
    maps = []
    for left in PREDICTIONS_AT:
        at = step_with_left(steps, left).at
        own, others = source.model.predict(source.latents(at, indices), at, both)  # f c h w
        maps.append((others - own).square().mean(1).sqrt().cpu())  # f h w
    return torch.stack(maps)


def step_with_left(steps: Sequence[Step], fraction: float) -> Step:
    """The step at which a fraction of the steps is left."""
    return steps[round((1 - fraction) * (len(steps) - 1))]


def find_by_text(
    source: InvertedClip,
    steps: Sequence[Step],
    others: Sequence[Conditioning],
    correspondence: Correspondence,
    keyframes: Sequence[int],
    batch_size: int,
    *,
    with_predictions: bool,
    on_event: Listener | None = None,
) -> Found:
    """The region of a clip that another text would change; of several texts, all that any of them would.

    Each shot is read by itself: outside and inside are told apart by the maps of its own keyframes.

    Args:
        source: the clip.
        steps: of sampling; some of their levels are read.
        others: the other texts, one branch each.
        correspondence: where tokens lie in other frames.
        keyframes: the frames that are read, in order.
        batch_size: frames per network call.
        with_predictions: also where the prediction changes, which finds places that are to get something new.
        on_event: called with `Progress` of the stage `region`.
    """
    with progress("region", len(keyframes) * len(others), on_event) as advance:

        def read(other: Conditioning, of_shot: list[int]) -> Tensor:
            """The maps of a text and the keyframes of one shot, k m h w."""
            attention, predictions = [], []
            for indices in batches(of_shot, batch_size):
                attention.append(attention_change(source, steps, other, indices))
                if with_predictions:
                    predictions.append(prediction_change(source, steps, other, indices))
                advance(len(indices))
            return _contrasts(torch.cat(attention), predictions)

        shots = [[frame for frame in keyframes if frame in shot] for shot in source.shots]
        found = [torch.cat([read(other, of_shot) for of_shot in shots]) for other in others]
    maps = torch.stack(found).amax(0)  # k m h w
    both = carried(maps, keyframes, source.shots, correspondence, batch_size)  # f m h w
    threshold = CHANGED if with_predictions else SHOWN
    return Found(as_masks(both.mean(1), source.size, threshold), *_extent(both.amax(1) > HALF))


def _contrasts(attention: Tensor, predictions: Sequence[Tensor]) -> Tensor:
    """The map of attention (k h w) and, if there are predictions (l g h w each), theirs: k m h w."""
    maps = [contrast(attention)]
    if predictions:
        levels = torch.cat(list(predictions), dim=1)  # l k h w
        scale = torch.quantile(levels.flatten(1), QUANTILE, dim=1).clamp_min(EPSILON)[:, None, None, None]
        maps.append(contrast((levels / scale).mean(0)))
    return torch.stack(maps, dim=1)


def contrast(maps: Tensor) -> Tensor:
    """Maps k h w scaled so that what lies outside is about 0 and what lies inside about 1.

    Outside and inside are told apart by Otsu's threshold (1979) over all of them.
    """
    values = maps.numpy()
    highest = float(values.max())
    if not highest > 0:
        return torch.zeros_like(maps)
    grey = (values.reshape(len(values), -1) * (255 / highest)).clip(0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    above = grey.reshape(values.shape) > threshold
    if above.all() or not above.any():
        return torch.zeros_like(maps)
    low, high = float(values[~above].mean()), float(values[above].mean())
    return (maps - low) / (high - low)


def carried(
    maps: Tensor, keyframes: Sequence[int], shots: Sequence[range], correspondence: Correspondence, batch_size: int
) -> Tensor:
    """Maps k m h w of the keyframes, blended at corresponding places of their own shot: f m h w of all frames."""
    height, width = maps.shape[-2:]
    frames = torch.empty(shots[-1].stop, *maps.shape[1:])
    frames[list(keyframes)] = maps
    for shot in shots:
        own = [frame for frame in keyframes if frame in shot]
        for indices in batches([index for index in shot if index not in set(own)], batch_size):
            warp = Warp(indices, own, correspondence, {(height, width)}, maps.device)
            frames[indices] = warp.warp_maps(frames[own])
    return frames


def as_masks(maps: Tensor, size: tuple[int, int], threshold: float) -> np.ndarray:
    """Where maps f h w exceed a threshold, without specks: f H W uint8, 255 inside, of (width, height) pixels."""
    masks = np.empty((len(maps), size[1], size[0]), np.uint8)
    side = max(3, round(GAP * max(size))) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    for index, each in enumerate(maps.numpy()):
        enlarged = cv2.resize(each, size, interpolation=cv2.INTER_CUBIC)  # H W
        closed = cv2.morphologyEx((enlarged > threshold).astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0
        masks[index] = 255 * ~without_specks(~without_specks(closed, SPECK), HOLE)
    return masks


def _extent(inside: Tensor) -> tuple[float, float]:
    """The share of all places and of those along the border that are inside, of f h w."""
    edges = [inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]]
    return float(inside.float().mean()), float(torch.cat(edges, dim=1).float().mean())
