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


class KeyframeFeatures:
    """Gathers, during the pass of some keyframes, what later passes read of them, and frees the rest.

    Args:
        branches: how many of the last branches the frame pass reads the features of; 0 for no features.
        attended: positions of the keyframes that later keyframes attend to.

    Attributes:
        outputs: by site, features b k n c of these branches.
        memories: by name, memories b k … of these keyframes.
    """

    def __init__(self, branches: int, attended: Sequence[int] = ()) -> None:
        self._branches = branches
        self._attended = list(attended)
        self.outputs: dict[str, Tensor] = {}
        self.memories: dict[str, Tensor] = {}

    def add_output(self, site: str, features: Tensor) -> None:
        """The features of a site, b k n c of all branches."""
        if self._branches:
            read = features[-self._branches :]
            # A view would keep the branches that are not read.
            self.outputs[site] = read if len(read) == len(features) else read.clone()

    def add_memory(self, name: str, memory: Tensor) -> None:
        """A memory, b k … of all keyframes."""
        if self._attended:
            self.memories[name] = memory[:, self._attended]
