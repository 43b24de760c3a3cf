"""What the rest of tokenflow asks of a model family. Knows no model: each family is a file beside this one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tokenflow.diffusion.schedules import Schedule
from tokenflow.models.attention import NOTHING, AttentionOverride, Features, Injection, Site


@dataclass(frozen=True)
class Conditioning:
    """A prompt, or several stacked as branches, in the form a network takes it.

    Attributes:
        tokens: b n c, the text encoder's states.
        added: b …, what else the family conditions on (pooled states, picture sizes); empty for most.
    """

    tokens: Tensor
    added: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def branches(self) -> int:
        """How many prompts are stacked."""
        return self.tokens.shape[0]

    def for_frames(self, frames: int) -> "Conditioning":
        """Each branch repeated for every frame: (b f) n c."""
        return Conditioning(
            self.tokens.repeat_interleave(frames, dim=0),
            {name: value.repeat_interleave(frames, dim=0) for name, value in self.added.items()},
        )


def stack(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Several prompts as the branches of one conditioning, in the order given."""
    return Conditioning(
        torch.cat([each.tokens for each in conditionings]),
        {name: torch.cat([each.added[name] for each in conditionings]) for name in conditionings[0].added},
    )


Control = Callable[[Tensor, int, Conditioning, Tensor], tuple[tuple[Tensor, ...], Tensor]]
"""(latents f c h w, time step, conditioning b n c, control pictures f 3 H W in [0, 1]) -> residuals to inject."""


class Model(Protocol):
    """A diffusion model with its autoencoder and text encoder. Takes tensors on any device, gives them on its own.

    Attributes:
        schedule: its noise levels and time steps.
        sites: its self-attention sites, in the order in which the network runs through them.
        native_size: the shorter side, in pixels, of the pictures that it was trained on.
        size_multiple: pictures' width and height have to be multiples of this, in pixels.
        device: where its tensors live.
    """

    schedule: Schedule
    sites: tuple[Site, ...]
    native_size: int
    size_multiple: int
    device: torch.device

    def encode(self, frames: Tensor) -> Tensor:
        """Latents f c h w (float32, about unit variance) of frames f 3 H W in [0, 1]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Frames f 3 H W in [0, 1] (float32) of latents f c h w."""
        ...

    def encode_prompt(self, prompt: str) -> Conditioning:
        """The conditioning (one branch) of a prompt. A prompt longer than the model reads gives a warning."""
        ...

    def predict(
        self,
        latents: Tensor,
        timestep: int,
        conditioning: Conditioning,
        *,
        strategy: AttentionOverride | None = None,
        injection: Injection = NOTHING,
    ) -> Tensor:
        """The noise in the latents (f c h w) under each branch of the conditioning: b f c h w, float32.

        Args:
            latents: f c h w at noise level `timestep`.
            timestep: an integer time step of the schedule.
            conditioning: b n c, branches.
            strategy: what stands in for self-attention; by default each frame attends to itself. It applies the
                injection's queries and keys; all else is applied here.
            injection: what the mode adds to this call.
        """
        ...

    def read(
        self, latents: Tensor, timestep: int, conditioning: Conditioning, *, attention: bool, features: Features | None
    ) -> Injection:
        """The features of these latents (f c h w) that injection uses, computed no further than the last one read.

        Args:
            attention: read queries and keys of the sites that Plug-and-Play injects.
            features: which features of the residual block that Plug-and-Play injects to read, if any.
        """
        ...

    def features(self, latents: Tensor, timestep: int, conditioning: Conditioning) -> Tensor:
        """Features f d h w of these latents (f c h w), good for finding the same place in two frames."""
        ...

    def load_control(self, path: str) -> Control:
        """The ControlNet at a folder or hub id.

        Raises:
            ModelNotFoundError, ModelError: there is none, or it is not one for this model.
        """
        ...
