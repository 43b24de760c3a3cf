"""Images that callers give, in any of the forms they come in."""

from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image

from tokenflow.errors import ConfigError
from tokenflow.video import read_frames


def as_image(given: Any, what: str) -> np.ndarray:
    """A given image, H W 3 uint8.

    Args:
        given: a path, a Pillow image, or an array or tensor H W 3, uint8 or floating point in [0, 1].
        what: names it in errors.

    Raises:
        ConfigError: it is none of these.
        ClipError, ClipNotFoundError: the file cannot be read.
    """
    if isinstance(given, str | PathLike):
        return next(read_frames(given, background="black")).image
    if isinstance(given, Image.Image):
        return np.asarray(given.convert("RGB"))
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    image = np.asarray(given)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ConfigError(f"{what}: expected an image of shape (height, width, 3), got {image.shape}")
    if image.dtype == np.uint8:
        return image
    if not (np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1):
        raise ConfigError(f"{what}: expected uint8, or floating point in [0, 1], got {image.dtype}")
    return (image * 255).round().astype(np.uint8)
