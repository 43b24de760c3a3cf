"""Models distilled to sample in a few steps: how they are recognised, and how they sample.

Their predictions lead to clean latents at once instead of along a path, so there is nothing to invert.
"""

from dataclasses import dataclass
from typing import Any

MAX_STEPS = 8
"""More than any of these models was made for."""

MAX_SCALE = 2.0
"""Guidance by branches beyond which such a model oversaturates, as the authors of LCM's adapters report."""


@dataclass(frozen=True)
class FewStep:
    """How such a model samples.

    Attributes:
        steps: how many steps it takes unless told otherwise.
        renoises: whether each step adds noise of its own to x̂₀, as consistency models do (Song et al., ICML 2023,
            algorithm 1), instead of going on with the noise n̂ that is estimated.
    """

    steps: int
    renoises: bool


def few_step_of(scheduler: Any, asked: bool | None = None) -> FewStep | None:
    """How a model of the Stable Diffusion family samples in a few steps; None for one that takes many.

    LCM and TCD have schedulers of their own. The Turbo models are the published ones that predict noise from Euler's
    steps spaced from the noisiest down. Lightning and Hyper weights come without a scheduler, so they have to be named.

    Args:
        scheduler: diffusers' scheduler of the checkpoint.
        asked: True or False to overrule what its scheduler says.
    """
    name = type(scheduler).__name__
    if asked is False:
        return None
    if name == "LCMScheduler":
        return FewStep(steps=4, renoises=True)
    return FewStep(steps=4, renoises=False) if asked or name == "TCDScheduler" or is_turbo(scheduler) else None


def is_turbo(scheduler: Any) -> bool:
    """Whether a scheduler is that of SD-Turbo or SDXL-Turbo, which are distilled without guidance."""
    config = scheduler.config
    return (
        type(scheduler).__name__ in ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
        and config.get("timestep_spacing") == "trailing"
        and config.get("prediction_type") == "epsilon"
        and not config.get("rescale_betas_zero_snr")
    )
