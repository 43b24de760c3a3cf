"""A mode whose initial latents are varied by the seed, with fresh noise in place of a part of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tokenflow.diffusion.latents import Latents, LazyLatents
from tokenflow.diffusion.levels import Level, shared_noise
from tokenflow.diffusion.schedules import Step
from tokenflow.models.injection import Injection
from tokenflow.modes.mode import Call, Mode
from tokenflow.modes.source import InvertedClip


@dataclass(frozen=True)
class Varied:
    """Another mode, started from noise of which a part is fresh.

    Latents x = a·x₀ + b·n of the mode become a·x₀ + b·(√(1−v²)·n + v·ε), where x₀ are the source's clean latents and ε
    is one Gaussian for all frames. The noise keeps its variance and the source its place at every level, so propagated
    edits still follow the source. What the mode injects is read from the source's own latents.

    Attributes:
        mode: what is varied.
        source: the clip.
        amount: v, in [0, 1].
        seed: of ε.
    """

    mode: Mode
    source: InvertedClip
    amount: float
    seed: int

    def source_latents_at(self, level: Level) -> Latents:
        """The mode's own, with the same part of their noise replaced at every level but the clean one, which is what
        sampling leads back to, though in some schedules it has a little noise."""
        latents, clean_level = self.mode.source_latents_at(level), self.source.model.schedule.clean
        if level == clean_level:
            return latents

        def read(indices: list[int]) -> Tensor:
            clean = self.source.latents(clean_level, indices)
            return vary(latents[indices], clean, level, self.amount, self.seed)

        return LazyLatents(len(latents), read)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The varied latents at the level where the mode starts, and its steps."""
        _, taken = self.mode.initial_latents(steps)
        return self.source_latents_at(taken[0].at), taken

    def capture(self, call: Call) -> Injection:
        """The mode's own."""
        return self.mode.capture(call)

    def residuals(self, call: Call) -> Any:
        """The mode's own."""
        return self.mode.residuals(call)

    def sources(self, call: Call) -> Tensor | None:
        """The mode's own."""
        return self.mode.sources(call)


def vary(latents: Tensor, clean: Tensor, level: Level, amount: float, seed: int) -> Tensor:
    """a·x₀ + b·(√(1−v²)·n + v·ε) of latents a·x₀ + b·n and clean latents x₀ (f c h w both), with v = `amount`."""
    signal = level.signal * clean
    fresh = level.noise * shared_noise(latents, seed, draw=1)  # f c h w; the first draw is the shared noise of modes
    return signal + (1 - amount**2) ** 0.5 * (latents - signal) + amount * fresh
