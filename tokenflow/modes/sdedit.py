"""SDEdit (Meng et al., ICLR 2022): start from the source with some noise on it, and inject nothing."""

from collections.abc import Sequence

from tokenflow.config import SDEdit as Settings
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import Injection
from tokenflow.modes.mode import Call, InvertedClip


class SDEdit:
    """Changes the more the more noise it starts from, shapes included.

    Args:
        source: the clip.
        settings: the strength in (0, 1], that is, the share of all steps that is taken; and the kind of noise.
        seed: of the shared noise.
    """

    def __init__(self, source: InvertedClip, settings: Settings, seed: int) -> None:
        self._source = source
        self._settings = settings
        self._seed = seed

    def source_latents_at(self, timestep: int) -> Latents:
        """The source with as much noise, of its kind, as a time step has."""
        return self._source.noised(timestep, self._settings.noise, self._seed)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The source at the noise level of `strength`, and the steps from there; at least one."""
        taken = steps[min(len(steps) - 1, round((1 - self._settings.strength) * len(steps))) :]
        return self.source_latents_at(taken[0].timestep), taken

    def inject(self, call: Call) -> Injection:
        """Nothing."""
        return Injection()
