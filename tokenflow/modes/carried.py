"""A clip whose frames were carried from edited ones: sampling fills in what they do not show."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tokenflow.diffusion.latents import Latents, LazyLatents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step, last_steps
from tokenflow.modes.mode import NothingInjected
from tokenflow.modes.source import InvertedClip


@dataclass(frozen=True)
class CarriedMode(NothingInjected):
    """SDEdit from carried frames, in which whatever they show stays as it is.

    At a level x = a·x₀ + b·n the carried frames have the noise n of the source's inversion, so that propagation
    follows the source's motion: their latents are the source's plus a·(c₀ − x₀), with c₀ their clean latents.

    Attributes:
        source: the clip.
        clean: the carried frames' clean latents, f c h w.
        uncertain: f 1 h w in [0, 1], 1 where sampling decides.
        strength: share of the steps that are taken, in (0, 1].
    """

    source: InvertedClip
    clean: Tensor
    uncertain: Tensor
    strength: float

    def source_latents_at(self, level: Level) -> Latents:
        """The carried frames at a level."""

        def read(indices: list[int]) -> Tensor:
            clean = self.source.latents(self.source.model.schedule.clean, indices)
            return self.source.latents(level, indices) + level.signal * (self.clean[indices].to(clean) - clean)

        return LazyLatents(self.source.frame_count, read)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The carried frames at the noise level of `strength`, and the steps from there; at least one."""
        taken = last_steps(steps, self.strength)
        return self.source_latents_at(taken[0].at), taken

    def compose(self, indices: list[int], latents: Tensor, level: Level) -> Tensor:
        """Latents (g c h w) where sampling decides, and the carried frames' elsewhere."""
        uncertain = self.uncertain[indices].to(latents)
        return uncertain * latents + (1 - uncertain) * self.source_latents_at(level)[indices].to(latents)
