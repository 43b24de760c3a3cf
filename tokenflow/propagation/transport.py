"""Carries what keyframes have to the corresponding places of other frames, blended of the two around each frame.

Knows correspondence and keyframes; knows no network and nothing of what it carries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.correspondence.base import Correspondence
from tokenflow.keyframes import neighbours

LOST_BELOW = 0.2
"""Where no keyframe's confidence reaches this, a token counts as occluded in all."""


@dataclass(frozen=True)
class Field:
    """Where some frames' tokens come from, on one token grid; two sides, the keyframes before and after.

    Attributes:
        keyframes: 2 f, places in the bank.
        positions: 2 f h w 2, in `grid_sample`'s units.
        weights: 2 f h w, adding up to 1.
        lost: f n, tokens that no side knows.
    """

    keyframes: Tensor
    positions: Tensor
    weights: Tensor
    lost: Tensor


class Transport:
    """Carries what keyframes have, at tokens' or latents' resolution, to corresponding places in some frames."""

    def __init__(
        self,
        frames: list[int],
        keyframes: Sequence[int],
        correspondence: Correspondence,
        grids: set[tuple[int, int]],
        device: torch.device,
    ) -> None:
        self._sides = [neighbours(frame, keyframes) for frame in frames]
        self._frames = frames
        self._keyframes = keyframes
        self._correspondence = correspondence
        self._device = device
        self.fields = {grid: self._field(*grid) for grid in grids}

    def carry(self, values: Tensor) -> Tensor:
        """b k c h w of the keyframes, on one of the grids, blended at corresponding places: b f c h w of the frames."""
        branches = values.shape[0]
        per_keyframe = values.transpose(0, 1).flatten(1, 2).float()  # half precision would move positions
        field = self.fields[values.shape[-2], values.shape[-1]]
        carried = sum(
            weights[:, None]
            * F.grid_sample(
                per_keyframe[keyframes],
                positions,
                mode="bicubic",  # bilinear sampling takes a tenth and more of the detail away (docs/speed.md)
                padding_mode="border",
                align_corners=False,
            )
            for keyframes, positions, weights in zip(field.keyframes, field.positions, field.weights, strict=True)
        )
        return carried.to(values.dtype).unflatten(1, (branches, -1)).transpose(0, 1)

    def _field(self, height: int, width: int) -> Field:
        positions, confidences = [], []
        for side in (0, 1):
            maps = [
                self._correspondence.maps(frame, self._keyframes[sides[side]], height, width)
                for frame, sides in self._pairs()
            ]
            positions.append(torch.stack([position for position, _ in maps]))
            confidences.append(torch.stack([confidence for _, confidence in maps]))
        confidence = torch.stack(confidences)
        weights = confidence * self._closeness()[..., None]
        total = weights.sum(0, keepdim=True)
        lost = confidence.amax(0) < LOST_BELOW
        weights = torch.where(lost, self._closeness()[..., None].expand_as(weights), weights / total.clamp_min(1e-6))
        normalised = (2 * torch.stack(positions) + 1) / torch.tensor([width, height]) - 1
        return Field(
            torch.tensor(self._sides, device=self._device).T,
            normalised.unflatten(2, (height, width)).to(self._device),
            weights.unflatten(2, (height, width)).to(self._device),
            lost.to(self._device),
        )

    def _closeness(self) -> Tensor:
        """2 f: how close each frame is to either keyframe, by true distance; the two add up to 1."""
        before, after = (
            torch.tensor([float(abs(frame - self._keyframes[sides[side]])) for frame, sides in self._pairs()])
            for side in (0, 1)
        )
        span = before + after
        share = torch.where(span > 0, after / span.clamp_min(1), 1.0)
        return torch.stack([share, 1 - share])

    def _pairs(self) -> Iterator[tuple[int, tuple[int, int]]]:
        return zip(self._frames, self._sides, strict=True)
