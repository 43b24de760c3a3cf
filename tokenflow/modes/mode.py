"""What a mode of editing is. Knows no mode: each is a file beside this one.

A mode says where sampling starts, and what is added to each network call. It does not know how frames are grouped
into calls (propagation) nor how the loop goes (denoise).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from torch import Tensor

from tokenflow.diffusion.latents import Frames, Latents, LazyLatents
from tokenflow.diffusion.schedules import CLEAN, Step, add_noise, ddim_step, noise_between, shared_noise
from tokenflow.models.attention import Injection
from tokenflow.models.model import Conditioning, Model
from tokenflow.store.inversions import StoredInversion


@dataclass(frozen=True)
class InvertedClip:
    """What modes may read of the clip that is edited.

    Attributes:
        model: the model.
        trajectory: its latents at every noise level.
        frames: f H W 3 uint8, its pictures at the model's size, read when asked for.
        conditioning: its prompt, one branch.
    """

    model: Model
    trajectory: StoredInversion
    frames: Frames
    conditioning: Conditioning

    def latents(self, timestep: int, frames: Sequence[int] | None = None) -> Tensor:
        """The source's latents f c h w at a time step, of all frames or of those listed.

        Between two levels of the inversion, and beyond its noisiest, they are where its own step there passes through,
        so that an edit may take more or fewer steps than the inversion took.
        """
        if self.trajectory.has(timestep):
            return self.trajectory.latents(timestep, frames)
        cleaner, noisier = self._levels_around(timestep)
        latents = self.trajectory.latents(cleaner, frames)
        alphas = [self.model.schedule.alpha(level) for level in (cleaner, noisier, timestep)]
        noise = noise_between(latents, self.trajectory.latents(noisier, frames), alphas[0], alphas[1])
        return ddim_step(latents, noise, alphas[0], alphas[2])

    def _levels_around(self, timestep: int) -> tuple[int, int]:
        """The inversion's levels on both sides of a time step, or its two noisiest beneath it."""
        levels = self.trajectory.timesteps
        place = min(max(bisect_right(levels, timestep), 1), len(levels) - 1)
        return levels[place - 1], levels[place]

    def level(self, timestep: int) -> Latents:
        """The source's latents at a time step, read when asked for."""
        return LazyLatents(len(self.frames), partial(self.latents, timestep))

    def noised(self, timestep: int, noise: Literal["inversion", "shared"], seed: int) -> Latents:
        """The source's latents at a time step: those of its inversion, or clean ones with one Gaussian for all frames.

        The inversion's own noise keeps more of the source's structure; the shared one gives an edit more freedom.
        """
        if noise == "inversion":
            return self.level(timestep)
        alpha = self.model.schedule.alpha(timestep)

        def read(frames: list[int]) -> Tensor:
            clean = self.latents(CLEAN, frames)
            return add_noise(clean, shared_noise(clean, seed), alpha)

        return LazyLatents(len(self.frames), read)


@dataclass(frozen=True)
class Call:
    """A network call that a mode may add something to.

    Attributes:
        frames: which frames go in.
        latents: theirs, f c h w.
        step: the step of sampling.
        conditioning: the branches.
        carried: whether self-attention's output and injected features come from keyframes, carried to these frames.
    """

    frames: Sequence[int]
    latents: Tensor
    step: Step
    conditioning: Conditioning
    carried: bool


class Mode(Protocol):
    """A method of editing."""

    def source_latents_at(self, timestep: int) -> Latents:
        """The latents (f c h w) that sampling would pass through at a time step if the edit changed nothing."""
        ...

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The latents (f c h w) to start from, and the steps to take from there."""
        ...

    def inject(self, call: Call) -> Injection:
        """What to add to a network call."""
        ...
