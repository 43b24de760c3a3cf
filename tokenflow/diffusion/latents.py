"""Interfaces for the frames and latents of a whole clip, read some frames at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Frames(Protocol):
    """The frames of a clip, f H W 3 uint8; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """f H W 3."""
        ...

    def __len__(self) -> int:
        """The number of frames, f."""
        ...

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """H W 3 for one index, g H W 3 for a list of them."""
        ...


class Latents(Protocol):
    """The latents of a clip; a tensor f c h w is one."""

    def __len__(self) -> int:
        """The number of frames, f."""
        ...

    def __getitem__(self, indices: list[int], /) -> Tensor:
        """The latents of some frames, g c h w."""
        ...


class WritableLatents(Latents, Protocol):
    """Latents that can be set, some frames at a time."""

    def __setitem__(self, indices: list[int], latents: Tensor, /) -> None:
        """Set the latents of some frames, g c h w."""
        ...


@dataclass(frozen=True)
class LazyLatents:
    """Latents that are read or computed when they are indexed.

    Attributes:
        count: number of frames.
        read: frame indices -> their latents, g c h w.
    """

    count: int
    read: Callable[[list[int]], Tensor]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, indices: list[int]) -> Tensor:
        return self.read(indices)


Scratch = Callable[[Sequence[int]], WritableLatents]
"""Allocates uninitialised latents of a shape f c h w."""


def in_memory(shape: Sequence[int]) -> Tensor:
    """Latents f c h w in main memory, uninitialised."""
    return torch.empty(tuple(shape))
