"""Correspondence from matching diffusion features of the source. Knows features; knows no network and no picture."""

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
"""How many frames' features are remembered: a batch of eight and the keyframes around it. Of Stable Diffusion 1.5 at
512 pixels a frame's take 47 MB."""

AROUND = 3
"""Tokens along a side of what is matched: a token alone has too many that look like it."""

DISTANCE = 1.0
"""What similarity a match costs as far away as the longer side of the frame; half as far away it costs a quarter."""

Features = Callable[[Sequence[int]], Tensor]
"""Frames' indices -> their features, f d h w."""


class FeatureCorrespondence(Pairwise):
    """Token maps by the most similar feature (cosine): TokenFlow's nearest-neighbour field (Geyer et al., section 4.2).

    Where TokenFlow searches anew at each site and step, here the features of one noise level are matched once a pair
    of frames, and the field serves every site. What is matched is a token with those around it; of two matches that are
    as good, the nearer one is taken; and it lies between tokens where the similarities of the neighbours say so, since
    whole tokens tear what is carried in between them. A match is confident if the way back from it ends near its start.

    Args:
        features: gives frames' features; called once a frame as long as it is remembered.
        folder: on whose disk what is found rests.
    """

    def __init__(self, features: Features, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._features = lru_cache(CACHED_FRAMES)(lambda frame: _with_neighbours(features([frame])[0].float()))

    def _find(self, first: int, second: int) -> np.ndarray:
        a, b = self._features(first), self._features(second)
        grid = identity(*a.shape[-2:])[0].to(a.device)
        size = torch.tensor([a.shape[-1], a.shape[-2]], device=a.device)
        far = torch.cdist(grid, grid) / size.max()
        similarity = a.flatten(1).T @ b.flatten(1) - DISTANCE * far.square()
        there, back = similarity.argmax(1), similarity.argmax(0)

        def field(similarity: Tensor, forth: Tensor, home: Tensor) -> Tensor:
            displacement = (grid[forth] + _between_tokens(similarity, forth, size) - grid) / size
            missed = (grid[home[forth]] - grid).square().sum(-1)
            return torch.cat([displacement, 1 / (1 + missed[:, None])], 1).reshape(*a.shape[-2:], 3)

        return torch.stack([field(similarity, there, back), field(similarity.T, back, there)]).cpu().numpy()


def _with_neighbours(features: Tensor) -> Tensor:
    """Features d h w, those of the tokens around each laid behind its own: (9 d) h w of length 1."""
    padded = F.pad(F.normalize(features, dim=0)[None], (AROUND // 2,) * 4, mode="replicate")
    return F.normalize(F.unfold(padded, AROUND)[0].unflatten(1, features.shape[-2:]), dim=0)


def _between_tokens(similarity: Tensor, best: Tensor, size: Tensor) -> Tensor:
    """How far from the best tokens (n) the best places lie, n 2 (x, y) within half a token: the peak of a parabola.

    It goes through the similarity (n n', of n' tokens on a grid of `size`) of the best one and those on either side of
    it, along each axis; at the border it stays with the token.
    """
    width = int(size[0])
    tokens = torch.arange(len(best), device=best.device)
    offsets = []
    for place, count, stride in ((best % width, width, 1), (best // width, int(size[1]), width)):
        inside = (place > 0) & (place < count - 1)
        sides = ((best + side * stride).clamp(0, similarity.shape[1] - 1) for side in (-1, 0, 1))
        before, peak, after = (similarity[tokens, side] for side in sides)
        curvature = before - 2 * peak + after
        offset = torch.where(curvature < -1e-6, (before - after) / 2 / curvature, 0.0).clamp(-0.5, 0.5)
        offsets.append(torch.where(inside, offset, 0.0))
    return torch.stack(offsets, dim=1)
