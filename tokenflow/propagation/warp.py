"""Warps keyframes' tokens to the corresponding places of other frames, blending the two keyframes around each frame.

Between tokens it interpolates bicubically, since bilinear sampling blurs (docs/speed.md).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.correspondence.base import Correspondence
from tokenflow.propagation.keyframes import neighbours

OCCLUDED_BELOW = 0.015
"""A token whose confidence is below this in both keyframes counts as occluded: with flow, where the way there and back
misses by half a latent on still parts and by more on moving ones (correspondence/flow.py); with matched features by
eight tokens. A token's confidence is a mean over its pixels, so that nearly all of them are occluded. A higher
threshold flickers more; 0 leaves artefacts at disocclusions (docs/speed.md)."""


def cubic(distance: Tensor) -> Tensor:
    """Weight of a sample at a distance in samples: cubic convolution (Keys, 1981, equation 4) with a = −3/4."""
    a, far = -0.75, distance.abs()
    near = ((a + 2) * far - (a + 3)) * far.square() + 1
    return torch.where(far <= 1, near, a * (((far - 5) * far + 8) * far - 4) * (far < 2))


def linear_blend(closeness: Tensor) -> Tensor:
    """Closeness to the keyframe before and to that after (2 f) as it is: a linear crossfade between keyframes."""
    return closeness


@dataclass(frozen=True)
class WarpOptions:
    """How tokens are sampled and blended.

    Attributes:
        occluded_below: confidence below which a token counts as occluded.
        kernel: weight of a tap at a distance in tokens.
        blend: from closeness to the two keyframes around each frame (2 f, adding up to 1) to their weights.
    """

    occluded_below: float = OCCLUDED_BELOW
    kernel: Callable[[Tensor], Tensor] = cubic
    blend: Callable[[Tensor], Tensor] = linear_blend


@dataclass(frozen=True)
class OccludedTokens:
    """The tokens of some frames that are occluded in every keyframe, on one token grid.

    Attributes:
        frames: g, positions among the frames of those that have any.
        tokens: g m, indices of theirs, where m is the most that one of these frames has.
        real: g m, False where a frame has fewer and an entry is padding.
    """

    frames: Tensor
    tokens: Tensor
    real: Tensor


@dataclass(frozen=True)
class SamplingGrid:
    """Where some frames' tokens come from, on one token grid: t taps for each, 16 in either keyframe.

    Attributes:
        indices: (f n) t, into the keyframes' tokens laid end to end.
        weights: (f n) t, of these tokens; those of one token add up to 1.
        occluded: tokens that no keyframe shows, if there are any.
    """

    indices: Tensor
    weights: Tensor
    occluded: OccludedTokens | None


class Warp:
    """Warps keyframes' tokens and maps to some frames.

    Args:
        indices: the frames.
        keyframes: frame indices of the keyframes, in order.
        correspondence: where tokens lie in other frames.
        grids: token grids (rows, columns) that will be warped.
        device: of the tensors.
        options: how tokens are sampled and blended.
    """

    def __init__(
        self,
        indices: list[int],
        keyframes: Sequence[int],
        correspondence: Correspondence,
        grids: set[tuple[int, int]],
        device: torch.device,
        options: WarpOptions = WarpOptions(),
    ) -> None:
        self._sides = [neighbours(index, keyframes) for index in indices]
        self._indices = indices
        self._keyframes = keyframes
        self._correspondence = correspondence
        self._device = device
        self._options = options
        self.grids = {grid: self._sampling_grid(*grid) for grid in grids}

    def warp_tokens(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens b k n c of the keyframes, blended at corresponding places: b f n c of the frames."""
        sampling = self.grids[grid]
        warped = [
            # (k n) c → (f n) c: for each token the weighted sum of its taps
            F.embedding_bag(sampling.indices, branch.flatten(0, 1), mode="sum", per_sample_weights=sampling.weights)
            for branch in tokens.to(self._device).float()  # weights in half precision would shift positions
        ]
        return torch.stack(warped).to(tokens.dtype).unflatten(1, (len(self._indices), -1))  # b f n c

    def blend(self, tokens: Tensor) -> Tensor:
        """Tokens b k n c that have no place in the frame, such as text, blended by closeness alone: b f n c."""
        around = torch.tensor(self._sides, device=tokens.device).T  # 2 f
        before, after = (tokens[:, side].to(self._device).float() for side in around)  # b f n c each
        share = self._options.blend(self._closeness()).to(self._device)[..., None, None]  # 2 f 1 1
        return (share[0] * before + share[1] * after).to(tokens.dtype)

    def warp_sequence(self, tokens: Tensor, grid: tuple[int, int], text_tokens: int) -> Tensor:
        """Tokens b k n c of attention calls (see `AttentionCall.text_tokens`), blended and warped: b f n c."""
        text, maps = tokens[:, :, :text_tokens], tokens[:, :, text_tokens:]
        parts = [self.blend(text)] if text_tokens else []
        parts += [self.warp_tokens(each, grid) for each in maps.split(grid[0] * grid[1], dim=2)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def warp_maps(self, maps: Tensor) -> Tensor:
        """The same for maps k c h w: f c h w."""
        grid = maps.shape[-2], maps.shape[-1]
        tokens = maps.flatten(2).transpose(1, 2)[None]  # 1 k (h w) c
        return self.warp_tokens(tokens, grid)[0].transpose(1, 2).unflatten(2, grid)

    def _sampling_grid(self, height: int, width: int) -> SamplingGrid:
        """Taps and weights of all n = height · width tokens of a grid, in the keyframe before and in that after."""
        positions, confidences = [], []
        for side in (0, 1):
            maps = [
                self._correspondence.maps(index, self._keyframes[sides[side]], height, width)
                for index, sides in self._pairs()
            ]
            positions.append(torch.stack([position for position, _ in maps]))  # f n 2
            confidences.append(torch.stack([confidence for _, confidence in maps]))  # f n
        confidence = torch.stack(confidences).to(self._device)  # 2 f n
        closeness = self._options.blend(self._closeness())[..., None].to(self._device)  # 2 f 1
        weights = confidence * closeness  # 2 f n
        total = weights.sum(0, keepdim=True)  # 1 f n
        occluded = confidence.amax(0) < self._options.occluded_below  # f n
        weights = torch.where(occluded, closeness.expand_as(weights), weights / total.clamp_min(1e-6))  # 2 f n
        taps, shares = bicubic_taps(torch.stack(positions).to(self._device), height, width, self._options.kernel)
        offsets = torch.tensor(self._sides, device=self._device).T[..., None, None] * (height * width)  # 2 f 1 1
        taps += offsets  # 2 f n 16, into all keyframes' tokens
        shares *= weights[..., None]  # 2 f n 16
        return SamplingGrid(
            torch.cat([*taps], -1).flatten(0, 1),  # (f n) 32
            torch.cat([*shares], -1).flatten(0, 1),  # (f n) 32
            _occluded(occluded),
        )

    def _closeness(self) -> Tensor:
        """2 f: how close each frame is to the keyframe before and to that after; the two add up to 1."""
        before, after = (
            torch.tensor([float(abs(index - self._keyframes[sides[side]])) for index, sides in self._pairs()])
            for side in (0, 1)
        )
        span = before + after
        share = torch.where(span > 0, after / span.clamp_min(1), 1.0)
        return torch.stack([share, 1 - share])

    def _pairs(self) -> Iterator[tuple[int, tuple[int, int]]]:
        return zip(self._indices, self._sides, strict=True)


def _occluded(mask: Tensor) -> OccludedTokens | None:
    """The occluded tokens of a mask f n."""
    counts = mask.sum(1)  # f
    most = int(counts.max())
    if most == 0:
        return None
    frames = counts.nonzero().flatten()  # g
    # A stable sort of the absent ones moves occluded tokens to the front, in order.
    tokens = (~mask[frames]).byte().argsort(dim=1, stable=True)[:, :most]  # g m
    real = torch.arange(most, device=mask.device) < counts[frames, None]  # g m
    return OccludedTokens(frames, tokens, real)


def bicubic_taps(
    positions: Tensor, height: int, width: int, kernel: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The 16 tokens around each position, repeating the border's beyond it, and the weight of each.

    Args:
        positions: … n 2, x and y in tokens.
        height, width: of the token grid.
        kernel: weight at a distance in tokens.

    Returns:
        Indices … n 16 and weights … n 16.
    """
    corner = positions.floor()  # … n 2
    offsets = torch.arange(-1, 3, device=positions.device)  # 4
    columns, rows = ((corner[..., axis, None].long() + offsets) for axis in (0, 1))  # … n 4
    indices = rows.clamp(0, height - 1)[..., :, None] * width + columns.clamp(0, width - 1)[..., None, :]  # … n 4 4
    across, down = (kernel((positions - corner)[..., axis, None] - offsets) for axis in (0, 1))  # … n 4
    return indices.flatten(-2), (down[..., :, None] * across[..., None, :]).flatten(-2)
