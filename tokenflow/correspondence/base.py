"""Where a frame's tokens lie in a keyframe: the protocol of correspondences."""

from typing import Protocol

import torch
from torch import Tensor

Map = tuple[Tensor, Tensor]
"""Positions n 2 (x, y in tokens; (0, 0) is the centre of the first token) and confidence n in [0, 1]."""


class Correspondence(Protocol):
    """Token maps between the frames of one clip."""

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> Map:
        """Where each token of `frame` lies in `keyframe`, on a token grid of `height` × `width`.

        The identity with confidence 1 where both are the same frame.
        """
        ...


def identity(height: int, width: int) -> Map:
    """The map of a frame to itself."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([columns, rows], dim=-1).reshape(-1, 2).float()
    return positions, torch.ones(height * width)
