"""Frames to latents and back, by any of diffusers' autoencoders for still images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tokenflow.errors import ModelError
from tokenflow.events import notice

TILED_ABOVE = 1536**2
"""Pixels of a frame from which the autoencoder works in tiles by itself: a whole one of 2048×2048 takes about 23 GB in
float32 (docs/small_cards.md)."""


class Autoencoder:
    """An autoencoder whose latents are normalised as its configuration says, to about unit variance.

    Takes AutoencoderKL, AsymmetricAutoencoderKL, AutoencoderTiny, AutoencoderDC, and whatever else has their `encode`
    and `decode`.

    Args:
        network: the autoencoder.
        device: where it works.
        ready: brings the network to the device before a call, and returns it.
    """

    def __init__(self, network: Any, device: torch.device, ready: Callable[[Any], Any]) -> None:
        if device.type == "cuda" or network.dtype == torch.bfloat16:
            # Faster convolutions (docs/speed.md), which round differently: in float32 on a CPU results keep their bits.
            _lay_out_channels_last(network)
        self._network = network
        self._device = device
        self._ready = ready
        self._said_tiles = False
        config = network.config
        self.channels: int = config.latent_channels
        levels = config.get("block_out_channels") or config.encoder_block_out_channels
        self.pixels_per_latent = 2 ** (len(levels) - 1)
        mean, deviation = (_per_channel(config.get(name), device) for name in ("latents_mean", "latents_std"))
        self._mean: Tensor | float = config.get("shift_factor") or 0.0
        self._scale: Tensor | float = config.get("scaling_factor") or 1.0
        if mean is not None and deviation is not None:  # as diffusers: one without the other has no effect
            self._mean, self._scale = mean, config.scaling_factor / deviation

    def encode(self, frames: Tensor) -> Tensor:
        """Latents f c h w (float32) of frames f 3 H W in [0, 1]: the mean of the posterior, normalised."""
        with torch.no_grad():
            with self._in_tiles(frames.shape[-2], frames.shape[-1]):
                output = self._ready(self._network).encode(frames.to(self._device, self._network.dtype) * 2 - 1)
            encoded = output.latent_dist.mode() if hasattr(output, "latent_dist") else output[0]
            return self._finite(self._normalise(encoded.float()))

    def decode(self, latents: Tensor) -> Tensor:
        """Frames f 3 H W in [0, 1] (float32) of latents f c h w."""
        with torch.no_grad():
            encoded = self._denormalise(latents.to(self._device))
            height, width = (side * self.pixels_per_latent for side in latents.shape[-2:])
            with self._in_tiles(height, width):
                images = self._ready(self._network).decode(encoded.to(self._network.dtype)).sample
            return (self._finite(images.float()) / 2 + 0.5).clamp(0, 1)

    @contextmanager
    def _in_tiles(self, height: int, width: int) -> Iterator[None]:
        """Let the network work in overlapping tiles if images are large, and say so once."""
        network = self._network
        if height * width <= TILED_ABOVE or getattr(network, "use_tiling", True):
            yield
            return
        if not self._said_tiles:
            self._said_tiles = True
            notice(
                f"frames of {width}×{height} are encoded and decoded in overlapping tiles, which bounds the "
                "autoencoder's memory; they differ slightly from whole ones at the tiles' borders. Lower clip.size for "
                "frames in one piece"
            )
        network.use_tiling = True
        try:
            yield
        finally:
            network.use_tiling = False

    def _normalise(self, encoded: Tensor) -> Tensor:
        """Latents (f c h w) of the network's own."""
        return (encoded - self._mean) * self._scale

    def _denormalise(self, latents: Tensor) -> Tensor:
        """The network's own of latents (f c h w)."""
        return latents / self._scale + self._mean

    def _finite(self, values: Tensor) -> Tensor:
        """The network's output.

        Raises:
            ModelError: its precision overflowed, or the input was not finite.
        """
        if not values.isfinite().all():
            raise ModelError(
                f"the VAE produced NaN or inf in {self._network.dtype}; expected finite values. Some models overflow "
                "in half precision: set model.dtype to float32 or bfloat16"
            )
        return values


class BatchNormalised(Autoencoder):
    """FLUX.2's autoencoder, which normalises each of the four latents of a token by statistics of its own."""

    def _normalise(self, encoded: Tensor) -> Tensor:
        mean, deviation = self._statistics(encoded)
        return unpatchify((patchify(encoded) - mean) / deviation)

    def _denormalise(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return unpatchify(patchify(latents) * deviation + mean)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of patches, 1 4c 1 1 each."""
        statistics = self._network.bn
        mean, variance = (each.to(like).view(1, -1, 1, 1) for each in (statistics.running_mean, statistics.running_var))
        return mean, (variance + self._network.config.batch_norm_eps).sqrt()


def patchify(latents: Tensor) -> Tensor:
    """Latents f c h w as patches of two by two, f (c 2 2) h/2 w/2."""
    frames, channels, height, width = latents.shape
    patches = latents.reshape(frames, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)  # f c h/2 2 w/2 2 → f c 2 2 h/2 w/2


def unpatchify(patches: Tensor) -> Tensor:
    """The latents f c h w of patches f (c 2 2) h/2 w/2."""
    split = patches.unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3)  # f c 2 2 h/2 w/2 → f c h/2 2 w/2 2
    return split.flatten(4, 5).flatten(2, 3)


def _per_channel(values: Sequence[float] | None, device: torch.device) -> Tensor | None:
    """One number per channel of latents f c h w: 1 c 1 1."""
    return None if values is None else torch.tensor(values, device=device).reshape(1, -1, 1, 1)


def upcast(network: torch.nn.Module) -> None:
    """As `network.to(torch.float32)`, which fake tensors do not take."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()


def _lay_out_channels_last(network: torch.nn.Module) -> None:
    """As `network.to(memory_format=torch.channels_last)`, which fake tensors do not take."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
