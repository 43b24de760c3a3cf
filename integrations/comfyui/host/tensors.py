"""ComfyUI's VIDEO, IMAGE and MASK, and the library's videos and arrays."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl, Types
from torch import Tensor

import tokenflow


def read_video(video: Any) -> "tuple[tokenflow.Video, Mapping[str, Any] | None]":
    """ComfyUI's VIDEO as a video of the library, and its sound.

    Raises:
        ClipError: its frames are not images of three channels in [0, 1].
    """
    components = video.get_components()
    return tokenflow.Video(components.images, rate=Fraction(components.frame_rate)), components.audio


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
