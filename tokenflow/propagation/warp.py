"""Carries what keyframes have to the corresponding places of other frames, blended of the two around each frame.

Between tokens it reads bicubically, since bilinear sampling takes detail away (docs/speed.md). Knows correspondence and
keyframes; knows no network and nothing of what it carries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.correspondence.base import Correspondence
from tokenflow.propagation.keyframes import neighbours

OCCLUDED_BELOW = 0.015
"""Where no keyframe's confidence reaches this, a token counts as occluded in all: with flow, where the way there and
back misses by half a latent for what stands still, and by more for what moves (correspondence/flow.py); with matched
features by eight tokens. A token's confidence is a mean over its pixels, so that all of them are lost or nearly so. To
count more as lost is less steady, and to count nothing so leaves specks where things are uncovered (docs/speed.md)."""


@dataclass(frozen=True)
class OccludedTokens:
    """The tokens of some frames that are occluded in every keyframe, on one token grid.

    Attributes:
        frames: g, places among the frames of those that have any.
        tokens: g m, places of theirs; m is the most that one of these frames has.
        real: g m, False where a frame has fewer and a place is filled up.
    """

    frames: Tensor
    tokens: Tensor
    real: Tensor


@dataclass(frozen=True)
class Field:
    """Where some frames' tokens come from, on one token grid: t places for each, around two points, one a keyframe.

    Attributes:
        places: (f n) t, among the keyframes' tokens laid end to end.
        shares: (f n) t, of what is there; those of a token add up to 1.
        lost: tokens that no keyframe knows, if there are any.
    """

    places: Tensor
    shares: Tensor
    lost: OccludedTokens | None


class Warp:
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

    def warp_tokens(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens b k n c of the keyframes, blended at corresponding places: b f n c of the frames."""
        field = self.fields[grid]
        carried = [
            F.embedding_bag(field.places, branch.flatten(0, 1), mode="sum", per_sample_weights=field.shares)
            for branch in tokens.float()  # shares of half precision would move positions
        ]
        return torch.stack(carried).to(tokens.dtype).unflatten(1, (len(self._frames), -1))

    def warp_maps(self, maps: Tensor) -> Tensor:
        """The same of maps k c h w: f c h w."""
        grid = maps.shape[-2], maps.shape[-1]
        return self.warp_tokens(maps.flatten(2).transpose(1, 2)[None], grid)[0].transpose(1, 2).unflatten(2, grid)

    def _field(self, height: int, width: int) -> Field:
        positions, confidences = [], []
        for side in (0, 1):
            maps = [
                self._correspondence.maps(frame, self._keyframes[sides[side]], height, width)
                for frame, sides in self._pairs()
            ]
            positions.append(torch.stack([position for position, _ in maps]))
            confidences.append(torch.stack([confidence for _, confidence in maps]))
        confidence = torch.stack(confidences).to(self._device)
        closeness = self._closeness()[..., None].to(self._device)
        weights = confidence * closeness
        total = weights.sum(0, keepdim=True)
        lost = confidence.amax(0) < OCCLUDED_BELOW
        weights = torch.where(lost, closeness.expand_as(weights), weights / total.clamp_min(1e-6))
        places, shares = _around(torch.stack(positions).to(self._device), height, width)
        places += torch.tensor(self._sides, device=self._device).T[..., None, None] * (height * width)
        shares *= weights[..., None]
        return Field(torch.cat([*places], -1).flatten(0, 1), torch.cat([*shares], -1).flatten(0, 1), _lost(lost))

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


def _lost(lost: Tensor) -> OccludedTokens | None:
    """Of a mask f n."""
    counts = lost.sum(1)
    most = int(counts.max())
    if most == 0:
        return None
    frames = counts.nonzero().flatten()
    # The lost ones first, in order: a stable sort of their absence.
    tokens = (~lost[frames]).byte().argsort(dim=1, stable=True)[:, :most]
    real = torch.arange(most, device=lost.device) < counts[frames, None]
    return OccludedTokens(frames, tokens, real)


def _around(positions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The 16 tokens around positions (… n 2; x, y), the border's beyond it, and the share of each: … n 16 both."""
    corner = positions.floor()
    offsets = torch.arange(-1, 3, device=positions.device)
    columns, rows = ((corner[..., axis, None].long() + offsets) for axis in (0, 1))
    places = rows.clamp(0, height - 1)[..., :, None] * width + columns.clamp(0, width - 1)[..., None, :]
    across, down = (_cubic((positions - corner)[..., axis, None] - offsets) for axis in (0, 1))
    return places.flatten(-2), (down[..., :, None] * across[..., None, :]).flatten(-2)


def _cubic(distance: Tensor) -> Tensor:
    """The share of a sample at a distance (in samples): cubic convolution (Keys, 1981, equation 4), with a = −3/4."""
    a, far = -0.75, distance.abs()
    near = ((a + 2) * far - (a + 3)) * far.square() + 1
    return torch.where(far <= 1, near, a * (((far - 5) * far + 8) * far - 4) * (far < 2))
