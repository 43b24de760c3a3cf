"""Per-keyframe tensors that later passes read from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureBank:
    """Tensors of several keyframes.

    Attributes:
        keyframes: their frame indices, in order.
        tensors: by name, b k ….
    """

    keyframes: tuple[int, ...]
    tensors: dict[str, Tensor]

    def select(self, keyframes: Sequence[int]) -> "FeatureBank":
        """Those of some keyframes, as copies, so that the others can be freed."""
        positions = [position for position, keyframe in enumerate(self.keyframes) if keyframe in keyframes]
        return self._at(positions)

    def merge(self, other: "FeatureBank") -> "FeatureBank":
        """Those of these keyframes and of others, in order; either alone if the other is empty."""
        if not (self.keyframes and other.keyframes):
            return self if self.keyframes else other
        keyframes = self.keyframes + other.keyframes
        tensors = {name: torch.cat([tensor, other.tensors[name]], 1) for name, tensor in self.tensors.items()}
        return FeatureBank(keyframes, tensors)._at(sorted(range(len(keyframes)), key=keyframes.__getitem__))

    def _at(self, positions: list[int]) -> "FeatureBank":
        tensors = {name: tensor[:, positions] for name, tensor in self.tensors.items()}
        return FeatureBank(tuple(self.keyframes[position] for position in positions), tensors)


EMPTY_BANK = FeatureBank((), {})
