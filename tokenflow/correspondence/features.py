"""Correspondence from matching diffusion features of the source."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.correspondence.base import identity
from tokenflow.correspondence.pairwise import Pairwise

CACHED_FRAMES = 16
"""How many frames' features are cached: a batch of eight and the keyframes around it. At 512 pixels, those of Stable
Diffusion 1.5 take 47 MB per frame."""

NEIGHBOURHOOD = 3
"""Tokens along a side of the patch that is matched: a single token resembles too many others."""

DISTANCE_COST = 1.0
"""Similarity that a match loses at a distance of the frame's longer side; at half that distance it loses a quarter."""

Features = Callable[[Sequence[int]], Tensor]
"""Frame indices -> their features, f d h w."""


class FeatureCorrespondence(Pairwise):
    """Token maps by the most similar feature (cosine): TokenFlow's nearest-neighbour field (Geyer et al., section 4.2).

    TokenFlow searches at each site and step; here the features of one noise level are matched once per pair of frames,
    and the field serves every site. Tokens are matched with their neighbours; of equally good matches the nearer one is
    taken; and matches have sub-token precision where the similarities of the neighbours imply it, since whole tokens
    tear what is propagated between them. A match is confident if the way back from it ends near its start.

    Args:
        features: computes frames' features; called once per frame while it is cached.
        folder: where fields are kept on disk.
        neighbourhood: tokens along a side of the patch that is matched, odd.
        distance_cost: similarity that a match loses at a distance of the frame's longer side.
    """

    needs_network = True

    def __init__(
        self,
        features: Features,
        folder: Path | None = None,
        *,
        neighbourhood: int = NEIGHBOURHOOD,
        distance_cost: float = DISTANCE_COST,
    ) -> None:
        super().__init__(folder)
        self._distance_cost = distance_cost
        self._features = lru_cache(CACHED_FRAMES)(
            lambda frame: _with_neighbours(features([frame])[0].float(), neighbourhood)
        )

    def find(self, first: int, second: int) -> np.ndarray:
        """The fields there and back (see `Pairwise.find`), from the best matches in both directions."""
        a, b = self._features(first), self._features(second)
        grid = identity(*a.shape[-2:])[0].to(a.device)  # n 2
        size = torch.tensor([a.shape[-1], a.shape[-2]], device=a.device)
        distance = torch.cdist(grid, grid) / size.max()  # n n'
        similarity = a.flatten(1).T @ b.flatten(1) - self._distance_cost * distance.square()  # n n'
        there, back = similarity.argmax(1), similarity.argmax(0)  # n, n'

        def field(similarity: Tensor, forth: Tensor, home: Tensor) -> Tensor:
            displacement = (grid[forth] + _between_tokens(similarity, forth, size) - grid) / size  # n 2
            missed = (grid[home[forth]] - grid).square().sum(-1)  # n
            return torch.cat([displacement, 1 / (1 + missed[:, None])], 1).reshape(*a.shape[-2:], 3)

        return torch.stack([field(similarity, there, back), field(similarity.T, back, there)]).cpu().numpy()


def _with_neighbours(features: Tensor, side: int) -> Tensor:
    """Features d h w of each token and those around it, stacked: (side² d) h w, of length 1."""
    padded = F.pad(F.normalize(features, dim=0)[None], (side // 2,) * 4, mode="replicate")  # 1 d h+2 w+2
    return F.normalize(F.unfold(padded, side)[0].unflatten(1, features.shape[-2:]), dim=0)


def _between_tokens(similarity: Tensor, best: Tensor, size: Tensor) -> Tensor:
    """Offset of the best position from the best tokens (n), n 2 (x, y) within half a token: the peak of a parabola.

    Along each axis it goes through the similarities (n n', of n' tokens on a grid of `size`) of the best token and of
    its two neighbours; at the border the offset is zero.
    """
    width = int(size[0])
    tokens = torch.arange(len(best), device=best.device)
    offsets = []
    for position, count, stride in ((best % width, width, 1), (best // width, int(size[1]), width)):
        inside = (position > 0) & (position < count - 1)
        sides = ((best + side * stride).clamp(0, similarity.shape[1] - 1) for side in (-1, 0, 1))
        before, peak, after = (similarity[tokens, side] for side in sides)
        curvature = before - 2 * peak + after
        offset = torch.where(curvature < -1e-6, (before - after) / 2 / curvature, 0.0).clamp(-0.5, 0.5)
        offsets.append(torch.where(inside, offset, 0.0))
    return torch.stack(offsets, dim=1)
