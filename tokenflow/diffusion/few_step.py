"""Models distilled to sample in a few steps: how they are recognised, and how they sample.

Their predictions lead to clean latents at once instead of along a path, so there is nothing to invert.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 8
"""Most of these models were made for no more."""

MAX_SCALE = 2.0
"""Guidance by branches beyond which such a model oversaturates, as the authors of LCM's adapters report."""


@dataclass(frozen=True)
class FewStep:
    """How such a model samples.

    Attributes:
        steps: how many steps it takes unless told otherwise.
        renoises: whether each step adds noise of its own to x̂₀, as consistency models do (Song et al., ICML 2023,
            algorithm 1), instead of going on with the noise n̂ that is estimated.
        max_scale: of guidance by branches; 1 for a model that was distilled without a second branch.
    """

    steps: int
    renoises: bool
    max_scale: float = MAX_SCALE


SPRINT = FewStep(steps=2, renoises=True)


def few_step_of(name: str, config: Mapping[str, Any], asked: bool | FewStep | None = None) -> FewStep | None:
    """How a model samples in a few steps; None for one that takes many.

    SANA-Sprint, LCM and TCD have schedulers of their own. The Turbo models are the published ones that predict noise
    from Euler's steps spaced from the noisiest down. Lightning and Hyper weights come without a scheduler, so they have
    to be named.

    Args:
        name: the class of the checkpoint's scheduler in diffusers.
        config: its configuration.
        asked: True, False or how it samples, to override what its scheduler says.
    """
    if asked is False:
        return None
    if isinstance(asked, FewStep):
        return asked
    if name == "SCMScheduler":
        return SPRINT
    if name == "LCMScheduler":
        return FewStep(steps=4, renoises=True)
    if is_turbo(name, config):
        return FewStep(steps=4, renoises=False, max_scale=1)
    return FewStep(steps=4, renoises=False) if asked or name == "TCDScheduler" else None


def flux_few_step(
    config: Mapping[str, Any], *, told_scale: bool, distilled: bool, asked: bool | None
) -> FewStep | None:
    """How a FLUX samples in a few steps; None for one that takes many.

    FLUX.1 schnell is not told a scale of guidance, and its levels do not depend on the size of the image; FLUX.2 klein
    says that it was distilled.

    Args:
        config: of the checkpoint's scheduler.
        told_scale: whether its transformer embeds the scale of guidance.
        distilled: what its model_index.json says.
        asked: True or False to override all that.
    """
    schnell = not told_scale and not config.get("use_dynamic_shifting")
    return FewStep(steps=4, renoises=False) if (schnell or distilled if asked is None else asked) else None


def is_turbo(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a scheduler is that of SD-Turbo or SDXL-Turbo, which are distilled without guidance."""
    return (
        name in ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
        and config.get("timestep_spacing") == "trailing"
        and config.get("prediction_type", "epsilon") == "epsilon"
        and not config.get("rescale_betas_zero_snr")
    )
