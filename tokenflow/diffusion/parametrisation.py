"""What a network predicts, and how a step follows from it.

A network predicts its own quantity p at a level (a, b): noise, velocity, or flow velocity. A parametrisation turns p
into estimates of the clean latents x̂₀ and of the noise n̂; a step to another level (a′, b′) is x′ = a′·x̂₀ + b′·n̂.
Guidance, propagation and extrapolation all work on p. No formula divides by a quantity that vanishes where p is
defined, so models with zero terminal signal-to-noise ratio are finite.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from tokenflow.diffusion.levels import Level, at_level


class Parametrisation(Protocol):
    """The algebra of one predicted quantity. Latents and predictions are f c h w."""

    def clean(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """x̂₀ of latents at a level and the prediction made there."""
        ...

    def noise(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """n̂ of latents at a level and the prediction made there."""
        ...

    def step_back(self, latents: Tensor, prediction: Tensor, at: Level, to: Level) -> Tensor:
        """The latents at `to` from which a step with this prediction (made at `to`) leads to `latents` at `at`."""
        ...

    def between(self, cleaner: Tensor, noisier: Tensor, at: Level, to: Level) -> Tensor:
        """The prediction at level `to` with which a step leads from `noisier` (at `to`) to `cleaner` (at `at`).

        Zero where both levels carry the same noise: such a step changes nothing, whatever is predicted.
        """
        ...

    def coordinate(self, level: Level) -> float:
        """The coordinate of a noisy level in which predictions change most evenly; inversion extrapolates over it."""
        ...


def step(parametrisation: Parametrisation, latents: Tensor, prediction: Tensor, at: Level, to: Level) -> Tensor:
    """One deterministic sampling step: latents f c h w at level `at` → f c h w at level `to`.

    For noise prediction this is DDIM with σ = 0 (Song et al., ICLR 2021, equation 12); for flows it is Euler's method.
    """
    clean = parametrisation.clean(latents, prediction, at)
    return at_level(clean, parametrisation.noise(latents, prediction, at), to)


class NoisePrediction:
    """p = n (Ho et al., NeurIPS 2020): Stable Diffusion 1.x and XL. Needs a > 0."""

    def clean(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """x̂₀ = (x − b·p)/a."""
        return (latents - level.noise * prediction) / level.signal

    def noise(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """n̂ = p."""
        return prediction

    def step_back(self, latents: Tensor, prediction: Tensor, at: Level, to: Level) -> Tensor:
        """The same step with the levels exchanged, since p is the noise at either level."""
        return step(self, latents, prediction, at, to)

    def between(self, cleaner: Tensor, noisier: Tensor, at: Level, to: Level) -> Tensor:
        """n = (x_to/a_to − x_at/a_at)/(σ_to − σ_at), with σ = b/a."""
        if at.has_noise_of(to):
            return torch.zeros_like(cleaner)
        sigma_at, sigma_to = at.noise / at.signal, to.noise / to.signal
        return (noisier / to.signal - cleaner / at.signal) / (sigma_to - sigma_at)

    def coordinate(self, level: Level) -> float:
        """log σ = log(b/a), in which the noise changes most evenly (Lu et al., NeurIPS 2022)."""
        return math.log(level.noise / level.signal)


class VelocityPrediction:
    """p = a·n − b·x₀ (Salimans & Ho, ICLR 2022, section 4), for levels with a² + b² = 1: Stable Diffusion 2.x."""

    def clean(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """x̂₀ = a·x − b·p."""
        return level.signal * latents - level.noise * prediction

    def noise(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """n̂ = b·x + a·p."""
        return level.noise * latents + level.signal * prediction

    def step_back(self, latents: Tensor, prediction: Tensor, at: Level, to: Level) -> Tensor:
        """A step rotates (x, p) by the angle φ between the levels: x_at = cos φ·x_to − sin φ·p, solved for x_to."""
        cosine, sine = _rotation(at, to)
        return (latents + sine * prediction) / cosine

    def between(self, cleaner: Tensor, noisier: Tensor, at: Level, to: Level) -> Tensor:
        """p = (cos φ·x_to − x_at)/sin φ."""
        if at.has_noise_of(to):
            return torch.zeros_like(cleaner)
        cosine, sine = _rotation(at, to)
        return (cosine * noisier - cleaner) / sine

    def coordinate(self, level: Level) -> float:
        """The angle atan2(b, a), the arc length along which x moves with velocity p; finite at a = 0."""
        return math.atan2(level.noise, level.signal)


def _rotation(at: Level, to: Level) -> tuple[float, float]:
    """Cosine and sine of the angle by which the noisier level `to` lies beyond `at`."""
    return to.signal * at.signal + to.noise * at.noise, to.noise * at.signal - to.signal * at.noise


class FlowPrediction:
    """p = n − x₀ (Liu et al., ICLR 2023; Esser et al., ICML 2024), for levels with a = 1−s, b = s: Sana, FLUX."""

    def clean(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """x̂₀ = x − s·p."""
        return latents - level.noise * prediction

    def noise(self, latents: Tensor, prediction: Tensor, level: Level) -> Tensor:
        """n̂ = x + (1−s)·p."""
        return latents + level.signal * prediction

    def step_back(self, latents: Tensor, prediction: Tensor, at: Level, to: Level) -> Tensor:
        """x_to = x_at + (s_to − s_at)·p."""
        return latents + (to.noise - at.noise) * prediction

    def between(self, cleaner: Tensor, noisier: Tensor, at: Level, to: Level) -> Tensor:
        """p = (x_to − x_at)/(s_to − s_at)."""
        if at.has_noise_of(to):
            return torch.zeros_like(cleaner)
        return (noisier - cleaner) / (to.noise - at.noise)

    def coordinate(self, level: Level) -> float:
        """s."""
        return level.noise
