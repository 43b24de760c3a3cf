"""Noise levels, the one coordinate that all model families share.

Latents at a level are x = a·x₀ + b·n, with the clean latents x₀ and Gaussian noise n. Variance-preserving diffusion has
a = √ᾱ and b = √(1−ᾱ); rectified flow has a = 1−s and b = s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CLEAN_TIME = -1.0
"""Time of a schedule's clean level, at which the network is never called."""


@dataclass(frozen=True)
class Level:
    """A noise level.

    Attributes:
        signal: a, in [0, 1].
        noise: b, in [0, 1].
        time: the timestep passed to the network; `CLEAN_TIME` at the clean one.
    """

    signal: float
    noise: float
    time: float

    @property
    def is_clean(self) -> bool:
        """Whether latents at this level are what the autoencoder encodes and decodes."""
        return self.time == CLEAN_TIME

    @property
    def share(self) -> float:
        """s = b/(a+b), the share of noise: 0 in clean latents, 1 in pure noise; orders the levels of any family."""
        return self.noise / (self.signal + self.noise)

    @property
    def name(self) -> str:
        """The level as part of a file name."""
        return "clean" if self.is_clean else f"s{self.share:.6f}"

    def has_noise_of(self, other: "Level") -> bool:
        """Whether both levels carry the same noise, so that a step between them changes nothing."""
        return (self.signal, self.noise) == (other.signal, other.noise)


def at_level(clean: Tensor, noise: Tensor, level: Level) -> Tensor:
    """a·x₀ + b·n of clean latents and noise (f c h w both): f c h w."""
    return level.signal * clean + level.noise * noise


def shared_noise(latents: Tensor, seed: int, draw: int = 0) -> Tensor:
    """One Gaussian for every frame (f c h w), so that the noise itself does not flicker.

    Drawn on the CPU, so that a seed means the same on every device; `draw` counts the samples of one seed, which are
    independent.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(draw + 1, *latents.shape[1:], generator=generator)[draw:]
    return noise.to(latents).expand_as(latents)
