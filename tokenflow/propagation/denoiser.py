"""The prediction of an edit for some frames: model, guidance, and what the mode adds. Used by every propagation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import AttentionOverride
from tokenflow.models.injection import Injection
from tokenflow.models.model import Model
from tokenflow.modes.mode import Call, Mode
from tokenflow.propagation.references import ReferenceFeatures, References

PromptShares = Callable[[Sequence[int]], Tensor]
"""Frame indices -> how much of each latent every prompt has, p g 1 h w; they add up to 1."""


@dataclass(frozen=True)
class EditDenoiser:
    """Predicts for some frames at a time, with what the mode injects.

    Attributes:
        model: the network.
        mode: what it adds to a call.
        guidance: the prompts.
        prompt_shares: where each of several prompts holds; None for one prompt everywhere.
        references: images whose tokens frames attend to; None for none.
        surroundings: what a model that paints into images is shown of each frame, f (1 + c) h w; None where it paints
            everything, and for other models.
    """

    model: Model
    mode: Mode
    guidance: Guidance
    prompt_shares: PromptShares | None = field(default=None, kw_only=True)
    references: References | None = field(default=None, kw_only=True)
    surroundings: Latents | None = field(default=None, kw_only=True)

    def predict(
        self,
        indices: Sequence[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        attention: Callable[[Injection], AttentionOverride],
    ) -> Tensor:
        """The prediction (b f c h w) for some frames' latents (f c h w)."""
        call = Call(indices, latents, step, conditioning)
        injection = self.mode.capture(call)
        return self._predict(call, attention(injection), injection)

    def predict_propagated(
        self,
        indices: Sequence[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        attention: AttentionOverride,
        features: Mapping[str, Tensor],
    ) -> Tensor:
        """The same with attention features and injected features (f d h w) propagated from keyframes."""
        call = Call(indices, latents, step, conditioning)
        return self._predict(call, attention, Injection(features=features))

    def references_at(self, step: Step) -> ReferenceFeatures | None:
        """The references as calls with all branches attend to them at a step; None without any."""
        if self.references is None:
            return None
        return self.references.at(step.at, self.guidance.branches, self.guidance.conditional.branches)

    def source_prediction(self, indices: Sequence[int], step: Step) -> Tensor:
        """The prediction (f c h w) with which a step leads from the source at one level to the source at the next.

        It needs no network call, since the inversion holds the source at every level.
        """
        cleaner, noisier = (self.mode.source_latents_at(level)[list(indices)] for level in (step.to, step.at))
        return self.model.schedule.parametrisation.between(cleaner, noisier, step.to, step.at)

    def source_noise(self, indices: Sequence[int], step: Step) -> Tensor:
        """The noise (f c h w) of the source's latents at the level of a step."""
        latents = self.mode.source_latents_at(step.at)[list(indices)]
        return self.model.schedule.parametrisation.noise(latents, self.source_prediction(indices, step), step.at)

    def _predict(self, call: Call, attention: AttentionOverride, injection: Injection) -> Tensor:
        inject = replace(
            injection,
            residuals=self.mode.residuals(call),
            sources=self.mode.sources(call),
            surroundings=None if self.surroundings is None else self.surroundings[list(call.indices)],
        )
        branches = self.model.predict(call.latents, call.step.at, call.conditioning, attention=attention, inject=inject)
        return branches if self.prompt_shares is None else self._joined(branches, self.prompt_shares(call.indices))

    def _joined(self, branches: Tensor, shares: Tensor) -> Tensor:
        """The predictions (b f c h w) with those of all prompts, the last branches, as one by their shares."""
        rest, prompts = branches[: -len(shares)], branches[-len(shares) :]
        return torch.cat([rest, (shares.to(prompts) * prompts).sum(0, keepdim=True)])
