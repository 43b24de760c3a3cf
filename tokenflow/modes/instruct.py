"""Editing by an instruction: the model is shown each source frame, and told what to make of it."""

from collections.abc import Sequence

from torch import Tensor

from tokenflow.config import Instruct
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step, last_steps
from tokenflow.errors import ConfigError
from tokenflow.modes.mode import Call, NothingInjected
from tokenflow.modes.source import InvertedClip


class InstructMode(NothingInjected):
    """Sampling from noise that all frames share, with the source frame's clean latents as tokens beside each frame.

    The way FLUX.1 Kontext (Labs et al., 2025) and FLUX.2 were trained to edit images. The clip need not be inverted.

    Args:
        source: the clip.
        settings: the share of the steps that is taken.
        seed: of the noise.

    Raises:
        ConfigError: the model was not made for this.
    """

    def __init__(self, source: InvertedClip, settings: Instruct, seed: int) -> None:
        if not source.model.instructs:
            raise ConfigError(NOT_MADE_FOR_IT)
        self._source = source
        self._settings = settings
        self._seed = seed

    def source_latents_at(self, level: Level) -> Latents:
        """The source at a level, with the shared noise."""
        return self._source.noised(level, "shared", self._seed)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The source at the noise level of `strength`, pure noise by default, and the steps from there."""
        taken = last_steps(steps, self._settings.strength)
        return self.source_latents_at(taken[0].at), taken

    def sources(self, call: Call) -> Tensor:
        """The clean latents of the source frames, f c h w."""
        return self._source.latents(self._source.model.schedule.clean, call.indices)


NOT_MADE_FOR_IT = (
    "edit.mode is instruct, but this model was not made to edit images by an instruction; expected FLUX.1 Kontext or "
    "FLUX.2 [klein]: set edit.mode to another, or model.path to one of these"
)
