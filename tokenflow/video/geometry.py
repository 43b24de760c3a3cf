"""Between a clip's size and a model's: sizes that a model takes, and pictures brought there and back.

Pure functions of numbers and arrays. Knows no file and no model.
"""

from typing import Literal, NamedTuple

import cv2
import numpy as np

from tokenflow.video.colour import Picture

How = Literal["fit", "fill", "pad"]
"""`fit` scales the whole picture to the size, be it by different factors; `fill` cuts off what is too much at
two sides; `pad` puts the whole picture in the middle and repeats its edges around it."""


class _Box(NamedTuple):
    """A rectangle in whole pixels."""

    left: int
    top: int
    width: int
    height: int


def fit_size(width: int, height: int, size: tuple[int, int] | int | None = None, multiple: int = 8) -> tuple[int, int]:
    """The size nearest to what is wanted that a model takes.

    Args:
        width, height: of the clip, in pixels, above 0.
        size: an int is the length of the shorter side; (width, height) is a box that the picture is to fill
            as far as its aspect lets it; None is the clip's own size.
        multiple: what both sides have to be multiples of, above 0.

    Returns:
        (width, height), each the nearest multiple and never 0; the aspect is kept to within their rounding.

    Raises:
        ValueError: a number is below 1.
    """
    wanted = size if isinstance(size, tuple) else (size,) if size is not None else ()
    if min(width, height, multiple, *wanted) < 1:
        raise ValueError(f"expected sizes above 0; got {width}×{height}, size {size}, multiple {multiple}")
    if isinstance(size, tuple):
        scale = min(size[0] / width, size[1] / height)
    else:
        scale = 1.0 if size is None else size / min(width, height)
    short = _nearest(min(width, height) * scale, multiple)
    long = _nearest(max(width, height) * scale, multiple)
    return (short, long) if width < height else (long, short)


def resize(picture: Picture, width: int, height: int, how: How = "fit") -> Picture:
    """Bring a picture to a size.

    Shrinks by averaging areas and grows by Lanczos' filter, each side for itself.

    Args:
        picture: (H W 3), uint8.
        width, height: of the result, in pixels.
        how: what happens if the aspects differ; see `How`.

    Returns:
        (height width 3), uint8.
    """
    rows, columns, _ = picture.shape
    if how == "fill":
        left, top, wide, high = _centred(width, height, columns, rows)
        return _scale(picture[top : top + high, left : left + wide], width, height)
    if how == "pad":
        box = _centred(columns, rows, width, height)
        return _surround(_scale(picture, box.width, box.height), box, width, height)
    return _scale(picture, width, height)


def restore(picture: Picture, width: int, height: int, how: How = "fit") -> Picture:
    """The inverse of `resize`: bring an edited picture back to its source's scale.

    Args:
        picture: (H W 3), uint8, of the size that `resize` gave.
        width, height: of the source, in pixels.
        how: what `resize` was told.

    Returns:
        (height width 3), uint8; for `fill` it is smaller, since what was cut off stays cut off.
    """
    rows, columns, _ = picture.shape
    if how == "fill":
        box = _centred(columns, rows, width, height)
        return _scale(picture, box.width, box.height)
    if how == "pad":
        left, top, wide, high = _centred(width, height, columns, rows)
        return _scale(picture[top : top + high, left : left + wide], width, height)
    return _scale(picture, width, height)


def _nearest(length: float, multiple: int) -> int:
    return max(multiple, int(length / multiple + 0.5) * multiple)


def _centred(width: int, height: int, outer_width: int, outer_height: int) -> _Box:
    """The largest rectangle of the aspect width : height in the middle of the outer one."""
    scale = min(outer_width / width, outer_height / height)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    return _Box((outer_width - inner_width) // 2, (outer_height - inner_height) // 2, inner_width, inner_height)


def _scale(picture: Picture, width: int, height: int) -> Picture:
    rows, columns, _ = picture.shape
    shrunk = min(columns, width), min(rows, height)
    if shrunk != (columns, rows):
        picture = cv2.resize(picture, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LANCZOS4)
    return picture


def _surround(picture: Picture, box: _Box, width: int, height: int) -> Picture:
    above, before = (box.top, height - box.top - box.height), (box.left, width - box.left - box.width)
    return np.pad(picture, (above, before, (0, 0)), mode="edge")
