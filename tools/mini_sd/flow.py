"""Rectified flow: noise added along a straight line, and its velocity as what a network learns.

With s the share of noise, noisy = (1 - s) clean + s noise and velocity = noise - clean (Liu et al., ICLR 2023). Times
are logit-normal (Esser et al., ICML 2024, section 3.1) and shifted towards noise as when sampling.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Noised:
    """noisy and velocity b c h w; times b, the shares of noise in (0,1)."""

    noisy: Tensor
    velocity: Tensor
    times: Tensor

    def loss(self, prediction: Tensor) -> Tensor:
        """Mean squared error of a predicted velocity b c h w."""
        return F.mse_loss(prediction.float(), self.velocity)

    def clean(self, prediction: Tensor) -> Tensor:
        """The clean latents b c h w that a predicted velocity leads to."""
        return self.noisy - self.times.view(-1, 1, 1, 1) * prediction


def shift_times(times: Tensor, shift: float) -> Tensor:
    """Times moved towards noise: a shift of 3 brings 0.5 to 0.75."""
    return shift * times / (1 + (shift - 1) * times)


def add_noise(latents: Tensor, shift: float) -> Noised:
    """Latents b c h w at random times."""
    times = shift_times(torch.randn(len(latents), device=latents.device).sigmoid(), shift)
    noise = torch.randn_like(latents)
    share = times.view(-1, 1, 1, 1)
    return Noised((1 - share) * latents + share * noise, noise - latents, times)


def sampling_times(steps: int, shift: float) -> Tensor:
    """steps + 1 times from 1 to 0, evenly spaced before they are shifted."""
    return shift_times(torch.linspace(1, 0, steps + 1), shift)


def chord(
    velocity: Callable[[Tensor, Tensor], Tensor], latents: Tensor, start: Tensor, end: Tensor, substeps: int
) -> Tensor:
    """The constant velocity b c h w that leads from latents at times `start` (b) to where Euler steps arrive at `end`.

    Args:
        velocity: of latents b c h w at times b.
        latents: b c h w.
        start: b, in (0,1].
        end: b, smaller.
        substeps: Euler steps, evenly spaced.
    """
    moved, gap = latents, (end - start) / substeps
    for substep in range(substeps):
        moved = moved + gap.view(-1, 1, 1, 1) * velocity(moved, start + substep * gap)
    return (moved - latents) / (end - start).view(-1, 1, 1, 1)
