"""What is kept of keyframes while other frames, and later keyframes, take from it. Knows nothing of what it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureBank:
    """Tensors of several keyframes.

    Attributes:
        keyframes: whose they are.
        tensors: by name, b k ….
    """

    keyframes: tuple[int, ...]
    tensors: dict[str, Tensor]

    def select(self, keyframes: Sequence[int]) -> "FeatureBank":
        """Of those of some keyframes that are here, copied, so that the others are forgotten."""
        places = [place for place, keyframe in enumerate(self.keyframes) if keyframe in keyframes]
        return self._taken(places)

    def merge(self, other: "FeatureBank") -> "FeatureBank":
        """Of these keyframes and others, in order; of either alone, if the other has none."""
        if not (self.keyframes and other.keyframes):
            return self if self.keyframes else other
        keyframes = self.keyframes + other.keyframes
        tensors = {name: torch.cat([tensor, other.tensors[name]], 1) for name, tensor in self.tensors.items()}
        return FeatureBank(keyframes, tensors)._taken(sorted(range(len(keyframes)), key=keyframes.__getitem__))

    def _taken(self, places: list[int]) -> "FeatureBank":
        tensors = {name: tensor[:, places] for name, tensor in self.tensors.items()}
        return FeatureBank(tuple(self.keyframes[place] for place in places), tensors)
