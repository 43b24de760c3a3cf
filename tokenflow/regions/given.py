"""Masks that were given: images, clips or arrays, white inside."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tokenflow.correspondence.flow import warp_image
from tokenflow.errors import ConfigError
from tokenflow.propagation.pixels.dense_flow import NeighbourFlow, resized_flow
from tokenflow.video import Frame, Video

NOISE = 8
"""Values of a decoded mask that are as near to black or white are taken for these: codecs do not keep them exactly."""

ASPECT_TOLERANCE = 0.02
"""Relative difference of aspect ratios up to which a mask is scaled to the clip's size."""


def read_masks(mask: Any, video: Video) -> np.ndarray:
    """A mask as grey frames, f H W uint8, or 1 H W where one is for all frames.

    Args:
        mask: a path of an image, a clip or a folder, of which the same part is read as of the video; a `Video`; a
            Pillow image; or an array H W or f H W: bool, integers from 0 to 255 or to 1, or floating point in [0, 1].
            An image with transparency is a mask by its opacity.
        video: what it is a mask of.

    Raises:
        ConfigError: it is none of these, or has another aspect ratio.
        ClipError, ClipNotFoundError: it cannot be read.
    """
    if isinstance(mask, str | PathLike):
        mask = open_masks(Path(mask), video)
    if isinstance(mask, Video):
        masks = np.stack([_decoded(frame) for frame in mask])
    elif isinstance(mask, Image.Image):
        masks = _image(mask)[None]
    else:
        masks = _array(mask)
    width, height = video.size
    if abs(masks.shape[2] / masks.shape[1] / (width / height) - 1) > ASPECT_TOLERANCE:
        raise ConfigError(
            f"a region's mask is {masks.shape[2]}×{masks.shape[1]}, but the clip is {width}×{height}; expected that "
            "size, or the same aspect ratio"
        )
    return masks


def open_masks(path: Path, video: Video) -> Video:
    """The masks in a file or folder: the same part of it as the video is of its own file, or one image.

    Raises:
        ConfigError: a folder of images cannot follow `clip.rate`.
        ClipError, ClipNotFoundError: it cannot be read.
    """
    part, whole = video.part, Video.read(path, background="black")
    if part is None or len(whole) == 1:
        return whole
    if part.rate is not None and path.is_dir():
        raise ConfigError(
            f"the masks in {path} have no times of their own, so clip.rate cannot be applied to them; give a video of "
            "masks, or leave clip.rate out"
        )
    return Video.read(path, start=part.start, frames=part.frames, every=part.every, rate=part.rate, background="black")


def _decoded(frame: Frame) -> np.ndarray:
    """A frame as a mask, H W uint8: its opacity if that varies, or its brightness."""
    if frame.alpha is not None and frame.alpha.min() < frame.alpha.max():
        return frame.alpha
    grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    return np.where(grey < NOISE, 0, np.where(grey > 255 - NOISE, 255, grey)).astype(np.uint8)


def _image(image: Image.Image) -> np.ndarray:
    """A Pillow image as a mask, H W uint8."""
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < alpha.max():
            return alpha
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        return (values / max(values.max(), 1) * 255).round().astype(np.uint8)
    return np.asarray(image.convert("L"))


def _array(given: Any) -> np.ndarray:
    """An array as masks, f H W uint8."""
    masks = np.asarray(given.float().cpu() if hasattr(given, "is_floating_point") else given)
    if masks.ndim in (3, 4) and masks.shape[-1] == 1 and masks.shape[-2] > 1:
        masks = masks[..., 0]
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or not masks.size or masks.dtype.kind not in "buif":
        raise ConfigError(
            "a region's mask: expected an image, or an array of shape (height, width) or (frames, height, width); got "
            f"{type(given).__name__} of shape {masks.shape}"
        )
    low, high = float(masks.min()), float(masks.max())
    most = 1 if masks.dtype.kind in "bf" else 255
    if not (low >= 0 and high <= most):  # NaN is neither
        raise ConfigError(f"a region's mask: expected {masks.dtype} from 0 to {most}; got {low:g} to {high:g}")
    return masks if high > 1 else (masks * 255.0).round().astype(np.uint8)


def scaled(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A mask H W uint8 at another size."""
    if mask.shape == (height, width):
        return mask
    how = cv2.INTER_AREA if width < mask.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(mask, (width, height), interpolation=how)


def carry_mask(mask: np.ndarray, frame: int, flow: NeighbourFlow, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """The mask of one frame carried to all others of its shot along optical flow, outwards: indices and H W uint8.

    Args:
        mask: H W uint8, of `frame`.
        frame: the frame with the mask, counted from the first of the shot.
        flow: of the shot.
        count: how many frames the shot has.
    """
    yield frame, mask
    for path in (range(frame - 1, -1, -1), range(frame + 1, count)):
        back: np.ndarray | None = None  # where each pixel of the frame before on the path came from, h w 2
        for index in path:
            step = flow(index, index - path.step)
            back = step if back is None else step + warp_image(back, step)
            yield index, _sampled(mask, resized_flow(back, mask.shape[1], mask.shape[0]))


def _sampled(mask: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A mask sampled where a flow (H W 2) points, 0 outside of the image."""
    height, width = mask.shape
    x = (np.arange(width, dtype=np.float32) + flow[..., 0]).astype(np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).astype(np.float32)
    return cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
