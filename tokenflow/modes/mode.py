"""The protocol of a mode: where sampling starts, and what is added to each network call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step
from tokenflow.models.injection import EMPTY, Injection


@dataclass(frozen=True)
class Call:
    """A network call that a mode may add something to.

    Attributes:
        indices: which frames go in.
        latents: theirs, f c h w.
        step: the step of sampling.
        conditioning: the branches.
    """

    indices: Sequence[int]
    latents: Tensor
    step: Step
    conditioning: Conditioning


class Mode(Protocol):
    """A method of editing."""

    def source_latents_at(self, level: Level) -> Latents:
        """The latents (f c h w) that sampling would pass through at a level if the edit changed nothing."""
        ...

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The latents (f c h w) to start from, and the steps to take from there."""
        ...

    def capture(self, call: Call) -> Injection:
        """Features of the source for this call; frames between keyframes get them by propagation instead."""
        ...

    def residuals(self, call: Call) -> Any:
        """What a ControlNet adds to this call, for every frame that goes through the network; None for nothing."""
        ...

    def sources(self, call: Call) -> Tensor | None:
        """The images that the model is shown beside these frames, as clean latents f c h w; None for none."""
        ...


class NothingInjected:
    """The part of a mode that adds nothing to network calls."""

    def capture(self, call: Call) -> Injection:
        """Nothing."""
        return EMPTY

    def residuals(self, call: Call) -> Any:
        """Nothing."""
        return None

    def sources(self, call: Call) -> Tensor | None:
        """Nothing."""
        return None
