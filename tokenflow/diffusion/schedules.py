"""The noise schedule: time steps, and DDIM's step between two noise levels.

Pure math on tensors. Knows the tables of a diffusers scheduler; knows no network, no clip and no mode.

A latent at noise level ᾱ is `√ᾱ·x₀ + √(1−ᾱ)·ε`. Time steps are integers in [0, train steps); `CLEAN` stands for the
level behind the last step of sampling, where diffusers reads `final_alpha_cumprod`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tokenflow.errors import ConfigError, ModelError

CLEAN = -1
"""The time step of latents that carry no noise: what the autoencoder gives and takes."""

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Step:
    """One step of sampling: from `timestep` to the less noisy `next_timestep`, the `index`-th of `count`."""

    index: int
    count: int
    timestep: int
    next_timestep: int

    def is_before(self, fraction: float) -> bool:
        """Whether this step lies in the first `fraction` (in [0, 1]) of all steps."""
        return self.index < round(fraction * self.count)


class Schedule:
    """Noise levels and time steps of a model, as its own scheduler's configuration gives them.

    Args:
        config: a diffusers scheduler's configuration. Any of the Stable Diffusion family will do, since they share
            the keys that matter: betas, spacing, offset, prediction type.

    Raises:
        ModelError: the model predicts something else than noise, velocity or the clean sample.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._scheduler = DDIMScheduler.from_config({**config, "clip_sample": False, "thresholding": False})
        self._alphas = [float(alpha) for alpha in self._scheduler.alphas_cumprod.double()]
        self.prediction_type: str = self._scheduler.config.prediction_type
        if self.prediction_type not in PREDICTION_TYPES:
            raise ModelError(
                f"the model's scheduler has prediction_type {self.prediction_type!r}; expected one of "
                f"{', '.join(PREDICTION_TYPES)}: use another checkpoint of the Stable Diffusion family"
            )

    def alpha(self, timestep: int) -> float:
        """ᾱ at a time step, in (0, 1]; at `CLEAN`, the scheduler's final value."""
        if timestep == CLEAN:
            return float(self._scheduler.final_alpha_cumprod)
        return self._alphas[timestep]

    def steps(self, count: int) -> tuple[Step, ...]:
        """The steps of sampling, noisiest first, with the spacing and offset that the model was set up with.

        Raises:
            ConfigError: `count` is not between 1 and the number of training steps.
        """
        if not 1 <= count <= len(self._alphas):
            raise ConfigError(f"steps is {count}; expected 1 to {len(self._alphas)}, the steps of the model's training")
        self._scheduler.set_timesteps(count)
        timesteps = [int(timestep) for timestep in self._scheduler.timesteps]
        if timesteps[0] >= len(self._alphas):  # the scheduler's offset leads beyond the last one
            raise ConfigError(f"steps is {count}, which leads beyond the noise of the model's scheduler; take one less")
        return tuple(
            Step(index, count, timestep, following)
            for index, (timestep, following) in enumerate(zip(timesteps, [*timesteps[1:], CLEAN], strict=True))
        )

    def noise(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        """The noise ε that a network's output stands for, at these latents and time step.

        Velocity is v = √ᾱ·ε − √(1−ᾱ)·x₀ (Salimans & Ho, ICLR 2022, section 4), so ε = √ᾱ·v + √(1−ᾱ)·x.
        """
        if self.prediction_type == "epsilon":
            return output
        alpha = self.alpha(timestep)
        if self.prediction_type == "v_prediction":
            return alpha**0.5 * output + (1 - alpha) ** 0.5 * latents
        return (latents - alpha**0.5 * output) / (1 - alpha) ** 0.5


def ddim_step(latents: Tensor, noise: Tensor, alpha: float, alpha_next: float) -> Tensor:
    """Move latents from noise level `alpha` to `alpha_next` along their predicted noise.

    The deterministic step of DDIM (Song et al., ICLR 2021, equation 12 with σ = 0). It is its own inverse with the
    levels exchanged, so sampling and inversion both call it.

    Args:
        latents: f c h w, at level `alpha`.
        noise: f c h w, the noise predicted in them.
        alpha, alpha_next: ᾱ of both levels, in (0, 1].

    Returns:
        f c h w, at level `alpha_next`.
    """
    clean = (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5
    return alpha_next**0.5 * clean + (1 - alpha_next) ** 0.5 * noise


def noise_between(latents: Tensor, noisier: Tensor, alpha: float, alpha_noisier: float) -> Tensor:
    """The noise (f c h w) with which `ddim_step` goes from latents at one level to those at a noisier one.

    Zero where both levels are the same: such a step goes nowhere, whatever the noise.
    """
    sigma, sigma_noisier = (((1 - level) / level) ** 0.5 for level in (alpha, alpha_noisier))
    if sigma == sigma_noisier:
        return torch.zeros_like(latents)
    return (noisier / alpha_noisier**0.5 - latents / alpha**0.5) / (sigma_noisier - sigma)


def add_noise(clean: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Clean latents at noise level `alpha`: √ᾱ·x₀ + √(1−ᾱ)·ε (f c h w)."""
    return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise


def shared_noise(latents: Tensor, seed: int) -> Tensor:
    """One Gaussian for every frame (f c h w): the same noise in each, so that nothing flickers from the start.

    Drawn on the CPU, so that a seed means the same on every device.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(1, *latents.shape[1:], generator=generator)
    return noise.to(latents).expand_as(latents)
