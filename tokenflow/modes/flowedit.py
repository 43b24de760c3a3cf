"""FlowEdit (Kulikov et al., ICCV 2025): editing without inversion, by the difference of two predictions.

At each step the clean source gets fresh noise, x = a·x₀ + b·n, one Gaussian for all frames, and the model predicts
twice: for x under the source's prompt, and for the edit, which has the same noise, under its own. The edit moves by the
difference of the two, so that no trajectory has to be known. `propagation/anchored.py` takes that difference, and
propagation carries it. A step is linear in latents and prediction, so this is the paper's algorithm (1) for flows and,
in the coordinates x/(a+b) and s = b/(a+b), for diffusion models as well.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor

from tokenflow.config import FlowEdit
from tokenflow.diffusion.latents import Latents, LazyLatents
from tokenflow.diffusion.levels import Level, at_level, shared_noise
from tokenflow.diffusion.schedules import Step, last_steps
from tokenflow.modes.mode import NothingInjected
from tokenflow.modes.source import InvertedClip


class FlowEditMode(NothingInjected):
    """Needs the clean latents of the source only.

    Args:
        source: the clip.
        settings: strength, the share of the steps to take.
        seed: of the noise.
    """

    def __init__(self, source: InvertedClip, settings: FlowEdit, seed: int) -> None:
        self._source = source
        self._settings = settings
        self._seed = seed
        self._noise = lru_cache(maxsize=2)(self._drawn)  # the two levels of a step

    def source_latents_at(self, level: Level) -> Latents:
        """The source with the noise of that level."""
        clean_level = self._source.model.schedule.clean

        def read(indices: list[int]) -> Tensor:
            clean = self._source.latents(clean_level, indices)
            return clean if level == clean_level else at_level(clean, self._noise(level).to(clean), level)

        return LazyLatents(self._source.frame_count, read)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The source at the noise level of `strength`, and the steps from there; at least one."""
        taken = last_steps(steps, self._settings.strength)
        return self.source_latents_at(taken[0].at), taken

    def _drawn(self, level: Level) -> Tensor:
        """The noise of a level, 1 c h w: independent from level to level, and the same for a seed wherever it runs."""
        digest = hashlib.sha256(f"{self._seed} {level.name}".encode()).digest()
        frame = self._source.latents(self._source.model.schedule.clean, [0])
        return shared_noise(frame, int.from_bytes(digest[:7], "big"))
