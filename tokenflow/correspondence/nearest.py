"""Correspondence from matching diffusion features of the source. Knows features; knows no network and no picture."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.correspondence.base import Map, identity

CACHED_FRAMES = 64
CACHED_PAIRS = 4096

Features = Callable[[Sequence[int]], Tensor]
"""Frames' indices -> their features, f d h w."""


class NearestCorrespondence:
    """Token maps by the most similar feature (cosine): TokenFlow's nearest-neighbour field (Geyer et al., section 4.2).

    Where TokenFlow searches anew at each site and step, here the features of one noise level are matched once a pair
    of frames, and the field serves every site. A match is confident if the way back from it ends near its start.

    Args:
        features: gives frames' features; called once a frame as long as it is remembered.
    """

    def __init__(self, features: Features) -> None:
        self._features = lru_cache(CACHED_FRAMES)(lambda frame: F.normalize(features([frame])[0].float(), dim=0))
        self._pair = lru_cache(CACHED_PAIRS)(self._match)

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> Map:
        """Where each token of `frame` lies in `keyframe`, and how sure that is."""
        positions, confidence = identity(height, width)
        if frame == keyframe:
            return positions, confidence
        field = self._pair(min(frame, keyframe), max(frame, keyframe))[0 if frame < keyframe else 1]
        cells = F.adaptive_avg_pool2d(field, (height, width)).flatten(1).T
        return positions + cells[:, :2] * torch.tensor([width, height]), cells[:, 2]

    def _match(self, first: int, second: int) -> tuple[Tensor, Tensor]:
        """Displacement in pictures' widths and heights, and confidence: 3 h w for first → second, and back."""
        a, b = self._features(first), self._features(second)
        height, width = a.shape[-2:]
        similarity = a.flatten(1).T @ b.flatten(1)
        there, back = similarity.argmax(1), similarity.argmax(0)
        grid = identity(height, width)[0].to(a.device)
        size = torch.tensor([width, height], device=a.device)

        def field(forth: Tensor, home: Tensor) -> Tensor:
            displacement = (grid[forth] - grid) / size
            missed = (grid[home[forth]] - grid).square().sum(-1)
            return torch.cat([displacement, 1 / (1 + missed[:, None])], 1).T.reshape(3, height, width).cpu()

        return field(there, back), field(back, there)
