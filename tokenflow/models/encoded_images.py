"""Latents of what ControlNets are shown, for those that take latents."""

from collections.abc import Callable
from hashlib import sha256

import torch
from torch import Tensor

MAX_ENCODED = 512
"""Control images whose latents are kept."""


class EncodedImages:
    """Latents of control images, each encoded once: a clip's edges come again at every step.

    Args:
        encode: images f 3 H W in [0, 1] -> latents f c h w.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor]) -> None:
        self._encode = encode
        self._encoded: dict[bytes, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Latents f c h w, in main memory, of images f 3 H W in [0, 1]."""
        keys = [sha256(image.cpu().numpy().tobytes()).digest() for image in images]
        missing = [index for index, key in enumerate(keys) if key not in self._encoded]
        if missing:
            encoded = self._encode(images[missing]).cpu()
            self._encoded |= {keys[index]: latents for index, latents in zip(missing, encoded, strict=True)}
        found = torch.stack([self._encoded[key] for key in keys])
        while len(self._encoded) > MAX_ENCODED:  # the oldest first
            del self._encoded[next(iter(self._encoded))]
        return found
