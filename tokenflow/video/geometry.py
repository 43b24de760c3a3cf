"""Resizing between a clip's size and sizes a model accepts, and back."""

import math
from typing import Literal, NamedTuple

import cv2
import numpy as np

from tokenflow.video.colour import RGBImage

ResizeMode = Literal["fit", "fill", "pad"]
"""`fit` stretches the whole image to the size; `fill` crops two opposite sides equally to the aspect ratio of the size;
`pad` centres the whole image and repeats its edges around it."""


class _Box(NamedTuple):
    """A rectangle in whole pixels."""

    left: int
    top: int
    width: int
    height: int


def fit_size(width: int, height: int, size: tuple[int, int] | int | None = None, multiple: int = 8) -> tuple[int, int]:
    """The size a model accepts that is nearest to the requested one, at the clip's aspect ratio.

    Args:
        width, height: of the clip, in pixels, above 0.
        size: an int is the length of the shorter side; (width, height) is a box that the image fills as far as its
            aspect ratio allows; None is the clip's own size.
        multiple: both sides of the result are multiples of this, above 0.

    Returns:
        (width, height), each rounded to the nearest multiple, at least one multiple.

    Raises:
        ValueError: an argument is below 1.
    """
    requested = size if isinstance(size, tuple) else (size,) if size is not None else ()
    if min(width, height, multiple, *requested) < 1:
        raise ValueError(f"expected sizes above 0; got {width}×{height}, size {size}, multiple {multiple}")
    if isinstance(size, tuple):
        scale = min(size[0] / width, size[1] / height)
    else:
        scale = 1.0 if size is None else size / min(width, height)
    short = _round_to_multiple(min(width, height) * scale, multiple)
    long = _round_to_multiple(max(width, height) * scale, multiple)
    return (short, long) if width < height else (long, short)


def fit_area(width: int, height: int, side: int, multiple: int = 8) -> tuple[int, int]:
    """The size a model accepts that has about the area of a square, at the clip's aspect ratio.

    Args:
        width, height: of the clip, in pixels, above 0.
        side: of the square, in pixels, above 0.
        multiple: both sides of the result are multiples of this, above 0.

    Returns:
        (width, height), each rounded to the nearest multiple, at least one multiple.

    Raises:
        ValueError: an argument is below 1.
    """
    if min(width, height, side, multiple) < 1:
        raise ValueError(f"expected sizes above 0; got {width}×{height}, side {side}, multiple {multiple}")
    scale = side / math.sqrt(width * height)
    return _round_to_multiple(width * scale, multiple), _round_to_multiple(height * scale, multiple)


def resize(image: RGBImage, width: int, height: int, mode: ResizeMode = "fit") -> RGBImage:
    """Resize an image, each side on its own: area averaging to shrink, Lanczos to enlarge.

    Args:
        image: (H W 3), uint8.
        width, height: of the result, in pixels.
        mode: what to do if the aspect ratios differ; see `ResizeMode`.

    Returns:
        (height width 3), uint8.
    """
    rows, columns, _ = image.shape
    if mode == "fill":
        return _scale(_crop(image, _centred_box(width, height, columns, rows)), width, height)
    if mode == "pad":
        box = _centred_box(columns, rows, width, height)
        return _pad_edges(_scale(image, box.width, box.height), box, width, height)
    return _scale(image, width, height)


def restore(image: RGBImage, width: int, height: int, mode: ResizeMode = "fit") -> RGBImage:
    """The inverse of `resize`: bring an edited image back to the scale of its source.

    Args:
        image: (H W 3), uint8, of the size that `resize` returned.
        width, height: of the source, in pixels.
        mode: the mode that `resize` used.

    Returns:
        (height width 3), uint8; for `fill` it is smaller, as what `resize` cropped stays cropped.
    """
    rows, columns, _ = image.shape
    if mode == "fill":
        box = _centred_box(columns, rows, width, height)
        return _scale(image, box.width, box.height)
    if mode == "pad":
        return _scale(_crop(image, _centred_box(width, height, columns, rows)), width, height)
    return _scale(image, width, height)


def crop_like(source: np.ndarray, image: RGBImage) -> np.ndarray:
    """The part of a source frame or of its opacity (H W …) that belongs to a restored image (rows columns 3)."""
    rows, columns = image.shape[:2]
    top, left = (source.shape[0] - rows) // 2, (source.shape[1] - columns) // 2
    return source[top : top + rows, left : left + columns]


def _round_to_multiple(length: float, multiple: int) -> int:
    return max(multiple, int(length / multiple + 0.5) * multiple)


def _centred_box(width: int, height: int, outer_width: int, outer_height: int) -> _Box:
    """The largest box of aspect ratio width : height centred in the outer size."""
    scale = min(outer_width / width, outer_height / height)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    return _Box((outer_width - inner_width) // 2, (outer_height - inner_height) // 2, inner_width, inner_height)


def _crop(image: RGBImage, box: _Box) -> RGBImage:
    return image[box.top : box.top + box.height, box.left : box.left + box.width]


def _scale(image: RGBImage, width: int, height: int) -> RGBImage:
    rows, columns, _ = image.shape
    shrunk = min(columns, width), min(rows, height)
    if shrunk != (columns, rows):
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LANCZOS4)
    return image


def _pad_edges(image: RGBImage, box: _Box, width: int, height: int) -> RGBImage:
    """Place an image at a box of a (width, height) canvas and repeat its edges outwards."""
    vertical = box.top, height - box.top - box.height
    horizontal = box.left, width - box.left - box.width
    return np.pad(image, (vertical, horizontal, (0, 0)), mode="edge")
