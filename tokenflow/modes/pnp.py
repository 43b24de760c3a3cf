"""Plug-and-Play (Tumanyan et al., CVPR 2023): the source's features and attention, injected in the first steps."""

from collections.abc import Sequence

from tokenflow.config import PnP
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step, steps_below
from tokenflow.models.injection import ATTENTION, EMPTY, Injection
from tokenflow.modes.mode import Call, NothingInjected
from tokenflow.modes.source import InvertedClip


class PnPMode(NothingInjected):
    """Keeps the source's layout and shapes, by features of the inverted source at the same noise level.

    Args:
        source: the clip.
        settings: which features, and until which fractions of the steps they and attention are injected (τ_f, τ_A).
    """

    def __init__(self, source: InvertedClip, settings: PnP) -> None:
        self._source = source
        self._settings = settings

    def source_latents_at(self, level: Level) -> Latents:
        """The inversion at a level."""
        return self._source.latents_at(level)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The end of the inversion, and all steps; flow models start below pure noise (diffusion/schedules.py)."""
        taken = steps_below(steps, self._source.model.schedule.edits_start_at)
        return self.source_latents_at(taken[0].at), taken

    def capture(self, call: Call) -> Injection:
        """The source's features, and its queries and keys."""
        wanted = set()
        if call.step.ends_by(self._settings.attention_until):
            wanted.add(ATTENTION)
        if call.step.ends_by(self._settings.features_until):
            wanted.add(self._settings.features or self._source.model.injected_features)
        if not wanted:
            return EMPTY
        latents = self._source.latents(call.step.at, call.indices)
        return self._source.model.base.capture(latents, call.step.at, self._source.conditioning, wanted)
