"""What an inversion holds, and the one that lives in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tokenflow.diffusion.latents import Frames, Scratch, in_memory
from tokenflow.diffusion.levels import Level
from tokenflow.events import Cancel
from tokenflow.store.kept_pairs import KeptPairs


class Inversion(Protocol):
    """A clip's frames at the working size, their times, and their latents at every noise level; complete or not yet."""

    @property
    def levels(self) -> Sequence[Level]:
        """The levels that are there, cleanest first."""
        ...

    def latents(self, level: Level, indices: Sequence[int] | None = None) -> Tensor:
        """Latents f c h w float32 at one of these levels, of all frames or of those listed."""
        ...

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Seconds at which each frame is shown, on the clock of the clip."""
        ...

    @property
    def end(self) -> Fraction:
        """Seconds at which the last frame ends, on the clock of the clip."""
        ...

    @property
    def has_frames(self) -> bool:
        """Whether the frames are there."""
        ...

    @property
    def complete(self) -> bool:
        """Whether every level is there."""
        ...

    @property
    def cuts(self) -> tuple[int, ...] | None:
        """The cuts that were found in the frames; None if none were looked for."""
        ...

    @property
    def scratch(self) -> Scratch:
        """Allocates latents in the same storage as the inversion."""
        ...

    def frames(self) -> Frames:
        """The frames at the working size, f H W 3 uint8."""
        ...

    def kept_pairs(self, name: str, made_from: Mapping[str, Any]) -> KeptPairs | None:
        """What edits left under a name about pairs of its frames, and may add to; None in memory."""
        ...

    def write_frames(self, frames: Iterable[tuple[np.ndarray, Fraction, Fraction]]) -> None:
        """Store the frames: H W 3 uint8, the time of each and its duration in seconds."""
        ...

    def write_cuts(self, cuts: Sequence[int]) -> None:
        """Store the cuts that were found in the frames."""
        ...

    def write_latents(self, level: Level, groups: Iterable[Tensor]) -> None:
        """Store the latents of all frames at a level, group by group (g c h w, float32 or float16)."""
        ...

    def finish(self) -> None:
        """Mark the inversion complete."""
        ...

    def locked(self, cancel: Cancel | None = None) -> AbstractContextManager[None]:
        """Hold the inversion for writing; `cancel` is asked while another call holds it."""
        ...


class MemoryInversion:
    """An inversion in main memory (see `Inversion`)."""

    scratch: Scratch = staticmethod(in_memory)

    def __init__(self) -> None:
        self.times: tuple[Fraction, ...] = ()
        self.end = Fraction(0)
        self.complete = False
        self.cuts: tuple[int, ...] | None = None
        self._frames: np.ndarray | None = None
        self._latents: dict[Level, Tensor] = {}

    @property
    def has_frames(self) -> bool:
        """Whether the frames are there."""
        return self._frames is not None

    @property
    def levels(self) -> Sequence[Level]:
        """The levels that are there, cleanest first."""
        return in_order(self._latents)

    def frames(self) -> Frames:
        """The frames at the working size, f H W 3 uint8."""
        if self._frames is None:
            raise LookupError("the inversion has no frames yet")
        return self._frames

    def latents(self, level: Level, indices: Sequence[int] | None = None) -> Tensor:
        """Latents f c h w float32 at a level, of all frames or of those listed."""
        stored = self._latents[level]
        return stored.to(torch.float32, copy=True) if indices is None else stored[list(indices)].float()

    def kept_pairs(self, name: str, made_from: Mapping[str, Any]) -> None:
        """Nothing: what is in memory ends with its edit."""

    def write_frames(self, frames: Iterable[tuple[np.ndarray, Fraction, Fraction]]) -> None:
        """Store the frames."""
        images, times, durations = zip(*frames, strict=True)
        self._frames = np.stack(images)
        self.times, self.end = tuple(times), times[-1] + durations[-1]

    def write_cuts(self, cuts: Sequence[int]) -> None:
        """Store the cuts."""
        self.cuts = tuple(cuts)

    def write_latents(self, level: Level, groups: Iterable[Tensor]) -> None:
        """Store the latents of a level."""
        self._latents[level] = torch.cat([group.detach().cpu() for group in groups])

    def finish(self) -> None:
        """Mark the inversion complete."""
        self.complete = True

    @contextmanager
    def locked(self, cancel: Cancel | None = None) -> Iterator[None]:
        """Nothing to hold: only its maker has it."""
        yield


def in_order(levels: Iterable[Level]) -> list[Level]:
    """Levels from the cleanest to the noisiest."""
    return sorted(levels, key=lambda level: (level.share, level.time))
