"""The `Model` protocol: what a model family must implement. Start here; each family has its own file beside it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import GuidanceKind
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Schedule
from tokenflow.models.attention import AttentionOverride, Site
from tokenflow.models.injection import EMPTY, Injection

Control = Callable[[Tensor, Level, Conditioning, Tensor, float], Any]
"""(latents f c h w, level, conditioning b n c, control images f 3 H W in [0, 1], scale) -> `Injection.residuals`."""


class Model(Protocol):
    """A diffusion model with its autoencoder and text encoders. Takes tensors on any device, returns them on its own.

    Calls from several threads take turns.

    Attributes:
        fingerprint: changes with weights, adapters, precision and revision.
        schedule: its noise levels, and what it predicts.
        guidance: how it is guided. One that embeds the scale finds it in `conditioning.added` (diffusion/guidance.py).
        sites: its self-attention sites, in the order the network runs through them.
        points: injection points by name, each with a one-line description.
        injected_features: which of them Plug-and-Play injects, besides attention, unless told otherwise.
        joins_text: whether text takes part in self-attention as tokens of every frame.
        instructs: whether it was made to edit an image that it is shown, by an instruction.
        inpaints: whether it was made to paint a part of an image of which it is shown the rest.
        native_size: pixels of the shorter side of the images it was trained on.
        size_multiple: width and height have to be multiples of this, in pixels.
        pixels_per_latent: pixels along each side of one latent.
        latent_channels: channels of its latents.
        device: where its tensors live.
    """

    schedule: Schedule
    guidance: GuidanceKind
    sites: tuple[Site, ...]
    points: Mapping[str, str]
    injected_features: str
    joins_text: bool
    instructs: bool
    inpaints: bool
    native_size: int
    size_multiple: int
    pixels_per_latent: int
    latent_channels: int
    device: torch.device

    @property
    def weight_bytes(self) -> int:
        """What the weights of all its networks take in memory."""
        ...

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits."""
        ...

    @property
    def base(self) -> "Model":
        """The model without its LoRAs, which reads and inverts the source; itself where it has none."""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """Latents f c h w (float32, about unit variance) of frames f 3 H W in [0, 1]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Frames f 3 H W in [0, 1] (float32) of latents f c h w."""
        ...

    def condition(self, prompt: str, *, size: tuple[int, int] | None = None, negative: bool = False) -> Conditioning:
        """The conditioning (one branch) of a prompt.

        Stable Diffusion reads weights (models/prompt_weights.py) and prompts of any length; in other families weights,
        and a prompt longer than the model reads, give a notice.

        Args:
            prompt: the text.
            size: width and height of the frames in pixels; None for the native size.
            negative: whether this is the prompt to move away from; families may treat an empty one specially.
        """
        ...

    def predict(
        self,
        latents: Tensor,
        level: Level,
        conditioning: Conditioning,
        *,
        attention: AttentionOverride | None = None,
        inject: Injection = EMPTY,
    ) -> Tensor:
        """The network's prediction (`schedule.parametrisation`) under each branch: b f c h w, float32.

        Args:
            latents: f c h w at `level`.
            level: a level of the schedule.
            conditioning: b n c, branches.
            attention: replaces self-attention, and then applies `inject.queries_keys` itself; by default each frame
                attends to itself. Other features and residuals are always applied here.
            inject: what the mode adds to this call.
        """
        ...

    def capture(self, latents: Tensor, level: Level, conditioning: Conditioning, wanted: Collection[str]) -> Injection:
        """The features of these latents (f c h w) at some injection points, computed no further than the last of them.

        Args:
            wanted: names of `points`.

        Raises:
            ValueError: the model has no point of that name.
        """
        ...

    @property
    def network(self) -> Any:
        """The network that predicts, a diffusers module, in which a LoRA can be trained."""
        ...

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The parts of the network that may be compiled (models/compiling.py)."""
        ...

    def training_prediction(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's prediction for different images, with gradients.

        Args:
            noisy: b c h w, each at its own level.
            times: b, as the network is told them.
            conditioning: b branches, one per image.

        Returns:
            b c h w, float32: the quantity of `schedule.training_batch`'s target.
        """
        ...

    def features(self, latents: Tensor, level: Level, conditioning: Conditioning) -> Tensor:
        """Features f d h w of these latents (f c h w), for matching places between frames."""
        ...

    def text_change(self, latents: Tensor, level: Level, conditioning: Conditioning, other: Conditioning) -> Tensor:
        """How much of the network's attention to text would be different under another text, place by place.

        Args:
            latents: f c h w at `level`.
            level: a level of the schedule.
            conditioning: the text, one branch.
            other: the other text, one branch.

        Returns:
            f h w, from 0; the scale is the family's own.
        """
        ...

    def draw_noise(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Gaussian noise f c h w for `count` images of (width, height) pixels, drawn as the family's pipeline does."""
        ...

    def load_control(self, path: str, detector: str = "canny", beside: Collection[str] = ()) -> Control:
        """The ControlNet at a folder or Hub id.

        Args:
            path: where it is.
            detector: makes the images that it is given; a union ControlNet is told.
            beside: paths of others that stay loaded; all else is dropped.

        Raises:
            ModelNotFoundError, ModelError: there is none, or it is not one for this model.
        """
        ...


def token_count(model: Model, size: tuple[int, int]) -> int:
    """Tokens per frame of (width, height) pixels at the network's finest level."""
    side = model.pixels_per_latent * min(site.scale for site in model.sites)
    return (size[0] // side) * (size[1] // side)
