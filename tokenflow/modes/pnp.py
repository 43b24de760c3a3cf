"""Plug-and-Play (Tumanyan et al., CVPR 2023): the source's features and attention, each for the first steps."""

from collections.abc import Sequence

from tokenflow.config import PnP as Settings
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import Injection
from tokenflow.modes.mode import Call, InvertedClip


class PnP:
    """Keeps the source's layout and shapes, by features that the inverted source has at the same noise level.

    Args:
        source: the clip.
        settings: which features, and until when, as fractions of the steps, they and attention are injected (τ_f, τ_A).
    """

    def __init__(self, source: InvertedClip, settings: Settings) -> None:
        self._source = source
        self._settings = settings

    def source_latents_at(self, timestep: int) -> Latents:
        """The inversion at a time step."""
        return self._source.level(timestep)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The end of the inversion, and all steps."""
        return self.source_latents_at(steps[0].timestep), steps

    def inject(self, call: Call) -> Injection:
        """The source's features, queries and keys; nothing where frames have both from keyframes."""
        attention = call.step.is_before(self._settings.attention_until)
        features = self._settings.features if call.step.is_before(self._settings.features_until) else None
        if call.carried or not (attention or features):
            return Injection()
        return self._source.model.read(
            self._source.latents(call.step.timestep, call.frames),
            call.step.timestep,
            self._source.conditioning,
            attention=attention,
            features=features,
        )
