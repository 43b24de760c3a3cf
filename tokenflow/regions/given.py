"""Masks that were given: images, clips or arrays, white inside."""

from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tokenflow.correspondence.flow import warp_image
from tokenflow.errors import ConfigError
from tokenflow.propagation.pixels.dense_flow import DenseFlow
from tokenflow.video import Video, clip_files


def read_masks(mask: Any, video: Video) -> np.ndarray:
    """A mask as grey frames, f H W uint8, or 1 H W where one is for all frames.

    Args:
        mask: a path of an image, a clip or a folder, of which the same part is read as of the video; a `Video`; a
            Pillow image; or an array H W or f H W: bool, uint8, or floating point in [0, 1].
        video: what it is a mask of.

    Raises:
        ConfigError: it is none of these.
        ClipError, ClipNotFoundError: it cannot be read.
    """
    if isinstance(mask, str | PathLike):
        mask = _read_part(Path(mask), video)
    if isinstance(mask, Video):
        return np.stack([_grey(frame.image) for frame in mask])
    if isinstance(mask, Image.Image):
        return np.asarray(mask.convert("L"))[None]
    masks = np.asarray(mask)
    if masks.ndim == 2:
        masks = masks[None]
    if masks.ndim != 3 or masks.dtype.kind not in "buf":
        raise ConfigError(f"a region's mask: expected an image, or an array H W or f H W; got {type(mask).__name__}")
    if masks.dtype == np.uint8:
        return masks
    if masks.dtype.kind == "u" or masks.min() < 0 or masks.max() > 1:
        raise ConfigError(f"a region's mask: expected bool, uint8, or floating point in [0, 1]; got {masks.dtype}")
    return (masks * 255.0).round().astype(np.uint8)


def _read_part(path: Path, video: Video) -> Video:
    part = video.part
    if part is None or (len(clip_files(path)) == 1 and len(list(Video.read(path, frames=2))) == 1):
        return Video.read(path, background="black")
    return Video.read(path, start=part.start, frames=part.frames, every=part.every, rate=part.rate, background="black")


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def scaled(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A mask H W uint8 at another size."""
    if mask.shape == (height, width):
        return mask
    how = cv2.INTER_AREA if width < mask.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(mask, (width, height), interpolation=how)


def carry_mask(mask: np.ndarray, frame: int, other: int, flow: DenseFlow) -> np.ndarray:
    """The mask of one frame carried to another along optical flow, H W uint8.

    Args:
        mask: H W uint8, of `frame`.
        frame: the frame with the mask.
        other: the frame to carry it to.
        flow: of the clip.
    """
    displacement, _ = flow.between(other, frame)
    return warp_image(mask, displacement)
