"""How the prompt is enforced: by two branches (classifier-free guidance), inside the network, or not at all."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning, stack

GuidanceKind = Literal["branches", "embedded", "none"]
"""How a model is guided: it predicts with and without the prompt (Stable Diffusion, Sana, FLUX.2 base), is told the
scale (FLUX.1 dev, SANA-Sprint, LCM), or was distilled at a fixed scale (FLUX.1 schnell, FLUX.2 distilled)."""


SCALE = "guidance"
"""Name of the scale among what a conditioning adds, for models that embed it."""


def embedded(conditioning: Conditioning, scale: float) -> Conditioning:
    """A conditioning that tells the network a scale of guidance."""
    scales = torch.full([conditioning.branches], float(scale), device=conditioning.tokens.device)  # b
    return replace(conditioning, added={**conditioning.added, SCALE: scales})


class Guidance:
    """Classifier-free guidance (Ho & Salimans, 2022): p = p_uncond + scale · (p_cond − p_uncond).

    Written as p_cond + (scale − 1) · δ with δ = p_cond − p_uncond, since δ can be propagated from frame to frame. With
    one branch δ is zero and p = p_cond: scale 1, and models that embed their guidance or have none.

    Args:
        conditional: the edit's prompt, one branch; or one each of several prompts for parts of the frame, whose
            predictions are joined before they are split.
        unconditional: the negative prompt, one branch; None for a model without a second branch.
        scale: at least 1; at 1 the negative prompt has no effect and is not computed.
    """

    def __init__(self, conditional: Conditioning, unconditional: Conditioning | None, scale: float) -> None:
        self.conditional = conditional
        self._unconditional = unconditional
        one_branch = scale == 1 or unconditional is None
        self.branches = conditional if one_branch or unconditional is None else stack([unconditional, conditional])
        self._scale = scale

    def with_prompts(self, conditional: Conditioning, scale: float | None = None) -> "Guidance":
        """The same guidance by other prompts, one branch each, for parts of the frame; at another scale if given.

        The negative prompt then adds what these add and shows their references, and no more.
        """
        negative = self._unconditional
        if negative is not None:
            added = {name: negative.added[name] for name in conditional.added}
            negative = replace(negative, added=added, references=conditional.references)
        return Guidance(conditional, negative, self._scale if scale is None else scale)

    def adding(self, prompts: Mapping[str, Tensor], negative: Mapping[str, Tensor]) -> "Guidance":
        """The same guidance with more for every prompt to add, and for the negative one; one branch each."""
        conditional = self.conditional.adding(prompts)
        unconditional = None if self._unconditional is None else self._unconditional.adding(negative)
        return Guidance(conditional, unconditional, self._scale)

    def showing(self, references: Any) -> "Guidance":
        """The same guidance with references beside every prompt (see `Conditioning.references`)."""
        unconditional = None if self._unconditional is None else replace(self._unconditional, references=references)
        return Guidance(replace(self.conditional, references=references), unconditional, self._scale)

    def split(self, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional prediction and δ (f c h w each) of all branches' predictions (b f c h w)."""
        return prediction[-1], prediction[-1] - prediction[0]

    def combine(self, conditional: Tensor, difference: Tensor) -> Tensor:
        """The guided prediction of the conditional prediction and δ (f c h w all)."""
        return conditional + (self._scale - 1) * difference
