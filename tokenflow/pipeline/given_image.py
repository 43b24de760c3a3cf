"""Images that callers give, in any of the forms they come in."""

from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image

from tokenflow.errors import ConfigError
from tokenflow.events import notice
from tokenflow.video import read_frames
from tokenflow.video.images.pixels import to_video_frame
from tokenflow.video.transparency import BLACK, composite


def as_image(given: Any, what: str) -> np.ndarray:
    """A given image, H W 3 uint8.

    Args:
        given: a path, of a video the first frame; a Pillow image; or an array or tensor H W 3, uint8 or floating point
            in [0, 1]. Files and Pillow images are shown upright, in sRGB, and over black, with a notice, where they are
            transparent.
        what: names it in errors.

    Raises:
        ConfigError: it is none of these.
        ClipError, ClipNotFoundError: the file cannot be read.
    """
    if isinstance(given, str | PathLike):
        frame = next(read_frames(given, background="black"))
        _notice_transparent(frame.alpha, what)
        return frame.image
    if isinstance(given, Image.Image):
        return _over_black(to_video_frame(given).to_ndarray(), what)
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    image = np.asarray(given)
    if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise ConfigError(f"{what}: expected an image of shape (height, width, 3), got {image.shape}")
    if image.dtype == np.uint8:
        return image
    if not (np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1):
        raise ConfigError(f"{what}: expected uint8, or floating point in [0, 1], got {image.dtype}")
    return (image * 255).round().astype(np.uint8)


def _over_black(pixels: np.ndarray, what: str) -> np.ndarray:
    """RGB of RGB or RGBA, H W 3 or 4 uint8."""
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3]
    _notice_transparent(alpha, what)
    return composite(pixels[..., :3], alpha, BLACK)


def _notice_transparent(alpha: np.ndarray | None, what: str) -> None:
    if alpha is not None and alpha.min() < 255:
        notice(f"{what} has transparent pixels, which are shown over black; give it a background if that is wrong")
