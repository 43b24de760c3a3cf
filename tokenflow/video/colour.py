"""Decoded pictures as upright RGB: matrix, range, pixel aspect, rotation, alpha.

Knows the colour tags of a picture and what they mean where they are missing. Knows no file. Primaries of
BT.601 are taken for those of BT.709, as players do: the difference is a few levels.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from tokenflow.video import wide_gamut

Picture = NDArray[np.uint8]

ACCURATE = int(
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
"""How pixels are converted; the default is faster and off by three levels."""

_HIGH_DEFINITION = 1280, 576
"""Untagged pictures wider or higher than this are BT.709, others BT.601, as players have it."""

MATRICES = {
    1: int(Colorspace.ITU709),
    4: int(Colorspace.FCC),
    5: int(Colorspace.ITU601),
    6: int(Colorspace.ITU601),
    7: int(Colorspace.SMPTE240M),
    9: int(Colorspace.BT2020),
}
"""From the numbers of ITU-T H.273 in a file to swscale's own; what is not among them counts as untagged."""

_QUARTER_TURNS = (1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)
"""Display matrices, counter-clockwise; see `_orientation`."""


class Converter:
    """Turns the pictures of one clip into RGB, all of the size of its first.

    Args:
        first: the first picture; the size of all is taken from it.
        pixel_aspect: width of a pixel over its height. The short side is stretched, so that no pixel is lost.
    """

    def __init__(self, first: VideoFrame, pixel_aspect: Fraction) -> None:
        self._stored = _square(first.width, first.height, pixel_aspect)
        self._orientation = _orientation(first)
        self._reformatter = VideoReformatter()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every picture that comes out, in pixels."""
        width, height = self._stored
        return (width, height) if self._orientation[0] else (height, width)

    def __call__(self, frame: VideoFrame) -> Picture:
        """A picture (H W 3, uint8, full range, BT.709), upright; what is transparent is laid over black."""
        if wide_gamut.needed(frame.color_trc, frame.color_primaries):
            deep = self._rgb(frame, "rgb48le").to_ndarray().astype(np.uint16, copy=False)
            picture = wide_gamut.to_standard(deep, frame.color_trc, frame.color_primaries)
        elif any(component.is_alpha for component in frame.format.components):
            picture = _over_black(self._rgb(frame, "rgba").to_ndarray().astype(np.uint8, copy=False))
        else:
            picture = self._rgb(frame, "rgb24").to_ndarray().astype(np.uint8, copy=False)
        return _turn(picture, self._orientation)

    def _rgb(self, frame: VideoFrame, pixel_format: str) -> VideoFrame:
        width, height = self._stored
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=pixel_format,
            src_colorspace=_matrix(frame),
            src_color_range=_range(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=ACCURATE,
        )


def _square(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    if pixel_aspect >= 1:
        return max(1, round(width * pixel_aspect)), height
    return width, max(1, round(height / pixel_aspect))


def _matrix(frame: VideoFrame) -> int | None:
    """swscale's number for the matrix of a picture; for one without a matrix, none."""
    if frame.format.is_rgb:
        return None
    if frame.colorspace in MATRICES:
        return MATRICES[frame.colorspace]
    high = frame.width >= _HIGH_DEFINITION[0] or frame.height > _HIGH_DEFINITION[1]
    return int(Colorspace.ITU709 if high else Colorspace.ITU601)


def _range(frame: VideoFrame) -> int | None:
    """Full where it is said to be; video that says nothing is limited."""
    if frame.format.is_rgb:
        return None
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return int(ColorRange.JPEG if full else ColorRange.MPEG)


def _over_black(picture: Picture) -> Picture:
    colour, alpha = picture[..., :3].astype(np.uint16), picture[..., 3:].astype(np.uint16)
    return ((colour * alpha + 127) // 255).astype(np.uint8)


def _orientation(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix as signs (a, b, c, d): a stored pixel (x, y) is shown at (a·x + c·y, b·x + d·y).

    Only quarter turns and mirrors are known; a slant is taken for the nearest of them.
    """
    try:
        matrix = cast(Mapping[str, Buffer], frame.side_data).get("DISPLAYMATRIX")
    except ValueError:  # PyAV refuses to list side data of a kind that it has no name for, such as Exif
        return _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return _QUARTER_TURNS[0]
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype=np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return -1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1
    return 0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0


def _turn(picture: Picture, orientation: tuple[int, int, int, int]) -> Picture:
    a, b, c, d = orientation
    if not a:
        picture = picture.swapaxes(0, 1)
    turned = picture[:: (b + d), :: (a + c)]
    return np.ascontiguousarray(turned)
