"""What every network call of an edit shares: guidance, model, and what the mode adds. Knows no grouping of frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tokenflow.diffusion.schedules import Step, noise_between
from tokenflow.models.attention import AttentionOverride, Features, Injection
from tokenflow.models.model import Conditioning, Model, stack
from tokenflow.modes.mode import Call, Mode


class Guidance:
    """Classifier-free guidance (Ho & Salimans, 2022): ε = ε_uncond + scale · (ε_cond − ε_uncond).

    Written as ε_cond + (scale − 1) · δ with δ = ε_cond − ε_uncond, since δ can be carried from frame to frame.

    Args:
        conditional: the edit's prompt, one branch.
        unconditional: the negative prompt, one branch.
        scale: at least 1; at 1 the negative prompt has no effect and is not computed.
    """

    def __init__(self, conditional: Conditioning, unconditional: Conditioning, scale: float) -> None:
        self.conditional = conditional
        self.branches = conditional if scale == 1 else stack([unconditional, conditional])
        self._scale = scale

    def split(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional noise and δ (f c h w each) of all branches' noise (b f c h w)."""
        return noise[-1], noise[-1] - noise[0]

    def combine(self, conditional: Tensor, difference: Tensor) -> Tensor:
        """The guided noise of the conditional noise and δ (f c h w all)."""
        return conditional + (self._scale - 1) * difference


@dataclass(frozen=True)
class EditDenoiser:
    """What every network call of an edit shares: the model, the mode that adds to calls, and the prompts."""

    model: Model
    mode: Mode
    guidance: Guidance

    def predict(
        self,
        frames: Sequence[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        strategy: Callable[[Injection], AttentionOverride],
    ) -> Tensor:
        """The noise (b f c h w) in some frames' latents (f c h w), with what the mode injects."""
        injection = self.mode.inject(Call(frames, latents, step, conditioning, carried=False))
        return self._predict(latents, step, conditioning, strategy(injection), injection)

    def predict_carried(
        self,
        frames: Sequence[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        strategy: AttentionOverride,
        features: Mapping[Features, Tensor],
    ) -> Tensor:
        """The same with self-attention's output and injected features (f d h w) carried from keyframes."""
        injection = self.mode.inject(Call(frames, latents, step, conditioning, carried=True))
        return self._predict(latents, step, conditioning, strategy, replace(injection, features=features))

    def source_noise(self, frames: Sequence[int], step: Step) -> Tensor:
        """The noise (f c h w) with which a step leads from the source at one level to the source at the next.

        Known without a network call, since the inversion keeps the source at every level.
        """
        timesteps = step.next_timestep, step.timestep
        cleaner, noisier = (self.mode.source_latents_at(timestep)[list(frames)] for timestep in timesteps)
        alpha, alpha_noisier = (self.model.schedule.alpha(timestep) for timestep in timesteps)
        return noise_between(cleaner, noisier, alpha, alpha_noisier)

    def _predict(
        self, latents: Tensor, step: Step, conditioning: Conditioning, strategy: AttentionOverride, injection: Injection
    ) -> Tensor:
        return self.model.predict(latents, step.timestep, conditioning, strategy=strategy, injection=injection)
