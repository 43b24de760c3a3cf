"""SDEdit (Meng et al., ICLR 2022): start from the source with some noise on it, and inject nothing."""

from collections.abc import Sequence

from tokenflow.config import SDEdit
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step, last_steps
from tokenflow.modes.mode import NothingInjected
from tokenflow.modes.source import InvertedClip


class SDEditMode(NothingInjected):
    """More initial noise changes more, including shapes.

    Args:
        source: the clip.
        settings: the strength in (0, 1], that is, the share of all steps that is taken; and the kind of noise.
        seed: of the shared noise.
    """

    def __init__(self, source: InvertedClip, settings: SDEdit, seed: int) -> None:
        self._source = source
        self._settings = settings
        self._seed = seed

    def source_latents_at(self, level: Level) -> Latents:
        """The source at a level, with the chosen noise."""
        return self._source.noised(level, self._settings.noise, self._seed)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The source at the noise level of `strength`, and the steps from there; at least one."""
        taken = last_steps(steps, self._settings.strength)
        return self.source_latents_at(taken[0].at), taken
