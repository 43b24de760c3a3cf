"""ComfyUI's VIDEO, IMAGE and MASK, and the library's videos and arrays."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl, Types
from torch import Tensor

import tokenflow

RGB, RGBA = 3, 4
"""How many channels an image has, without and with transparency."""


def read_image(given: Tensor) -> Tensor:
    """ComfyUI's IMAGE, f H W 3 float32 in [0, 1] on the CPU.

    Raises:
        ValueError: it has another number of channels, or holds NaN.
    """
    if given.shape[-1] == RGBA:
        raise ValueError("the images have an alpha channel; remove it with Split Image with Alpha")
    if given.ndim != 4 or given.shape[-1] != RGB:
        raise ValueError(f"expected images of shape (frames, height, width, 3), got {tuple(given.shape)}")
    return _in_range(given, "images")


def read_mask(given: Tensor) -> Tensor:
    """ComfyUI's MASK, f H W or H W float32 in [0, 1] on the CPU.

    Raises:
        ValueError: it holds NaN.
    """
    return _in_range(given, "mask")


def _in_range(given: Tensor, what: str) -> Tensor:
    """Values in [0, 1]. Resampling overshoots them, and ComfyUI's own nodes cut that off when they save."""
    values = given.detach().cpu().float()
    if values.isnan().any():
        raise ValueError(f"the {what} holds values that are no numbers (NaN); check the nodes that make it")
    return values.clamp(0, 1)


def read_frames(images: Tensor, rate: Fraction | float) -> "tokenflow.Video":
    """ComfyUI's IMAGE as a video of the library.

    Raises:
        ValueError: it is not one (see `read_image`).
    """
    return tokenflow.Video(read_image(images), rate=rate)


def read_video(video: Any) -> "tuple[tokenflow.Video, Mapping[str, Any] | None]":
    """ComfyUI's VIDEO as a video of the library, and its sound.

    Raises:
        ValueError: its frames are no IMAGE (see `read_image`).
    """
    components = video.get_components()
    return read_frames(components.images, Fraction(components.frame_rate)), components.audio


def write_video(frames: Tensor, rate: Fraction, audio: Mapping[str, Any] | None) -> Any:
    """ComfyUI's VIDEO from an IMAGE, a rate and sound."""
    components = Types.VideoComponents(images=frames, audio=audio, frame_rate=rate)
    return InputImpl.VideoFromComponents(components)


def as_image(frames: np.ndarray) -> Tensor:
    """ComfyUI's IMAGE, f H W 3 in [0, 1], from f H W 3 uint8."""
    return torch.tensor(frames, dtype=torch.float32) / 255


def as_mask(masks: np.ndarray) -> Tensor:
    """ComfyUI's MASK, f H W in [0, 1], from f H W uint8."""
    return torch.tensor(masks, dtype=torch.float32) / 255
