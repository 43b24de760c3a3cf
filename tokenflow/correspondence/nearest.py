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

CACHED_FRAMES = 64
"""How many frames' features are remembered."""

Features = Callable[[Sequence[int]], Tensor]
"""Frames' indices -> their features, f d h w."""


class NearestCorrespondence(Pairwise):
    """Token maps by the most similar feature (cosine): TokenFlow's nearest-neighbour field (Geyer et al., section 4.2).

    Where TokenFlow searches anew at each site and step, here the features of one noise level are matched once a pair
    of frames, and the field serves every site. A match is confident if the way back from it ends near its start.

    Args:
        features: gives frames' features; called once a frame as long as it is remembered.
        folder: on whose disk what is found rests.
    """

    def __init__(self, features: Features, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._features = lru_cache(CACHED_FRAMES)(lambda frame: F.normalize(features([frame])[0].float(), dim=0))

    def _find(self, first: int, second: int) -> np.ndarray:
        a, b = self._features(first), self._features(second)
        height, width = a.shape[-2:]
        similarity = a.flatten(1).T @ b.flatten(1)
        there, back = similarity.argmax(1), similarity.argmax(0)
        grid = identity(height, width)[0].to(a.device)
        size = torch.tensor([width, height], device=a.device)

        def field(forth: Tensor, home: Tensor) -> Tensor:
            displacement = (grid[forth] - grid) / size
            missed = (grid[home[forth]] - grid).square().sum(-1)
            return torch.cat([displacement, 1 / (1 + missed[:, None])], 1).reshape(height, width, 3)

        return torch.stack([field(there, back), field(back, there)]).cpu().numpy()
