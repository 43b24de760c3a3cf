"""What models that are pipelines of diffusers share: autoencoder, fingerprint, device, turns, ControlNet."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from tokenflow.errors import ModelError
from tokenflow.models.autoencoder import Autoencoder
from tokenflow.models.checkpoints.quiet import quiet
from tokenflow.models.encoded_images import EncodedImages
from tokenflow.models.identity import path_fingerprint, weights_fingerprint
from tokenflow.models.injection import BLOCK
from tokenflow.models.model import Control, Model
from tokenflow.models.placement import Offloading, prepare
from tokenflow.models.quantization import weight_bytes


class PipelineModel:
    """The part of a `Model` that does not depend on its network (see models/model.py for the methods).

    Args:
        network: the denoiser.
        vae: the autoencoder.
        text_encoders: in any order.
        device: where it works; by default where its denoiser is.
        offload: keep only the part at work on the device and the others in main memory. Text encoders, autoencoder and
            denoiser take turns a few times per edit, so the largest of them has to fit.
        fingerprint: computes the fingerprint; by default from the weights in memory.
        autoencoder: wraps `vae`.
    """

    latent_channels: int
    injected_features: str = BLOCK
    joins_text: bool = False
    instructs: bool = False
    inpaints: bool = False

    def __init__(
        self,
        network: Any,
        vae: Any,
        text_encoders: Sequence[Any],
        *,
        device: torch.device | None,
        offload: bool,
        fingerprint: Callable[[], str] | None,
        autoencoder: type[Autoencoder] = Autoencoder,
    ) -> None:
        networks = [network, vae, *text_encoders]
        for each in networks:
            prepare(each)
        self.device: torch.device = device or network.device
        self._turn = RLock()
        self._ready = Offloading(self.device, enabled=offload)
        self._networks = networks
        self._fingerprint = fingerprint or (lambda: weights_fingerprint(networks))
        self._autoencoder = autoencoder(vae, self.device, self._ready)
        self.pixels_per_latent = self._autoencoder.pixels_per_latent
        self._controls: dict[str, tuple[str, Any]] = {}  # path -> fingerprint and network

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with weights, precision and revision."""
        return self._fingerprint()

    @property
    def weight_bytes(self) -> int:
        """What the weights of all its networks take in memory."""
        return weight_bytes(self._networks)

    def encode(self, frames: Tensor) -> Tensor:
        """Latents f c h w of frames f 3 H W in [0, 1], normalised."""
        with self._turn:
            return self._autoencoder.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Frames f 3 H W in [0, 1] of latents f c h w."""
        with self._turn:
            return self._autoencoder.decode(latents)

    def draw_noise(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Standard Gaussian noise f c h w for images of (width, height) pixels, as diffusers' pipelines draw it."""
        width, height = (side // self.pixels_per_latent for side in size)
        return torch.randn(count, self.latent_channels, height, width, generator=generator)

    @property
    def base(self) -> Model:
        """The model itself: LoRAs that can be switched off are in models/adapters/adapted.py."""
        return self  # type: ignore[return-value]  # families add what is missing

    def load_control(self, path: str, detector: str = "canny", beside: Collection[str] = ()) -> Control:
        """The ControlNet at a folder or Hub id, on this model's device and in its precision."""
        with self._turn:
            self._controls = {each: kept for each, kept in self._controls.items() if each in (path, *beside)}
            fingerprint = path_fingerprint(path)
            if path not in self._controls or self._controls[path][0] != fingerprint:  # its file may have been replaced
                with quiet():
                    self._controls[path] = fingerprint, self._open_control_network(path, detector)
            network_control = self.as_control(self._controls[path][1], detector, EncodedImages(self.encode))

        def control(*arguments: Any) -> Any:
            with self._turn:
                return network_control(*arguments)

        return control

    def _open_control_network(self, path: str, detector: str) -> Any:
        """A ControlNet of the family.

        Raises:
            ModelError: the family has no ControlNets.
        """
        raise ModelError(
            "this model's family has no ControlNet; set edit.mode to another, or model.path to a model that has one"
        )

    def as_control(self, network: Any, detector: str, encode: Callable[[Tensor], Tensor]) -> Control:
        """A ControlNet as a `Control`.

        Args:
            network: the ControlNet.
            detector: makes the images that it is given.
            encode: control images f 3 H W in [0, 1] -> latents f c h w, for networks that take these.
        """
        raise NotImplementedError


def check_parts(pipeline: Any, parts: Sequence[str], family: str) -> None:
    """Refuse a pipeline without one of its parts.

    Raises:
        ModelError: some are missing.
    """
    missing = [part for part in parts if getattr(pipeline, part, None) is None]
    if missing:
        raise ModelError(
            f"the model has no {', '.join(missing)}; expected a text-to-image pipeline of the {family} family: choose "
            "another model.path"
        )
