"""Conversion of decoded frames to upright RGB: matrix, range, pixel aspect, rotation, alpha.

Missing colour tags are filled in as players do. BT.601 primaries are treated as BT.709, also as players do: the
difference is a few levels.
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
from tokenflow.video.transparency import Alpha

RGBImage = NDArray[np.uint8]
"""(H W 3), full range, BT.709."""

SCALING_FLAGS = int(
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
"""swscale's flags for conversion; its defaults are faster, with errors of up to three levels."""

_HIGH_DEFINITION = 1280, 576
"""Untagged frames of at least this width or above this height are BT.709, others BT.601, as in players."""

MATRICES = {
    1: int(Colorspace.ITU709),
    4: int(Colorspace.FCC),
    5: int(Colorspace.ITU601),
    6: int(Colorspace.ITU601),
    7: int(Colorspace.SMPTE240M),
    9: int(Colorspace.BT2020),
}
"""Matrix coefficients of ITU-T H.273 to swscale's colour spaces; frames with any other value count as untagged."""

_QUARTER_TURNS = (1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)
"""Orientations by the number of counter-clockwise quarter turns; see `_orientation`."""


class Converter:
    """Converts the frames of one clip to RGB images, all of one size.

    Args:
        first: the first frame, which determines size and orientation of all.
        pixel_aspect: width of a pixel divided by its height. Frames are stretched, never shrunk, to square pixels.
    """

    def __init__(self, first: VideoFrame, pixel_aspect: Fraction) -> None:
        self._stored_size = _square_pixel_size(first.width, first.height, pixel_aspect)
        self._orientation = _orientation(first)
        self._reformatter = VideoReformatter()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every image, in pixels."""
        width, height = self._stored_size
        return (width, height) if self._orientation[0] else (height, width)

    def __call__(self, frame: VideoFrame) -> tuple[RGBImage, Alpha | None]:
        """The frame as an upright image (H W 3), uint8, full range, BT.709, and its opacity; None if it has none."""
        alpha = None
        if has_alpha(frame):
            rgba = self._reformat(frame, "rgba").to_ndarray().astype(np.uint8, copy=False)
            image, alpha = rgba[..., :3], _apply_orientation(rgba[..., 3], self._orientation)
        if wide_gamut.needs_conversion(frame.color_trc, frame.color_primaries):
            deep = self._reformat(frame, "rgb48le").to_ndarray().astype(np.uint16, copy=False)
            image = wide_gamut.to_bt709(deep, frame.color_trc, frame.color_primaries)
        elif alpha is None:
            image = self._reformat(frame, "rgb24").to_ndarray().astype(np.uint8, copy=False)
        return _apply_orientation(image, self._orientation), alpha

    def _reformat(self, frame: VideoFrame, pixel_format: str) -> VideoFrame:
        width, height = self._stored_size
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=pixel_format,
            src_colorspace=_matrix(frame),
            src_color_range=_range(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING_FLAGS,
        )


def has_alpha(frame: VideoFrame) -> bool:
    """Whether a frame may be transparent."""
    return any(component.is_alpha for component in frame.format.components)


def _square_pixel_size(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    if pixel_aspect >= 1:
        return max(1, round(width * pixel_aspect)), height
    return width, max(1, round(height / pixel_aspect))


def _matrix(frame: VideoFrame) -> int | None:
    """swscale's colour space for the matrix of a frame; None for RGB."""
    if frame.format.is_rgb:
        return None
    if frame.colorspace in MATRICES:
        return MATRICES[frame.colorspace]
    high = frame.width >= _HIGH_DEFINITION[0] or frame.height > _HIGH_DEFINITION[1]
    return int(Colorspace.ITU709 if high else Colorspace.ITU601)


def _range(frame: VideoFrame) -> int | None:
    """swscale's colour range: full if tagged so, else limited; None for RGB."""
    if frame.format.is_rgb:
        return None
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return int(ColorRange.JPEG if full else ColorRange.MPEG)


def _orientation(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix as signs (a, b, c, d): the stored pixel (x, y) is shown at (a·x + c·y, b·x + d·y).

    Rotations by other angles are rounded to the nearest quarter turn, mirrored or not.
    """
    try:
        matrix = cast(Mapping[str, Buffer], frame.side_data).get("DISPLAYMATRIX")
    except ValueError:  # PyAV cannot list side data of types it does not know, such as Exif
        return _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return _QUARTER_TURNS[0]
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype=np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return -1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1
    return 0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0


def _apply_orientation(image: NDArray[np.uint8], orientation: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    a, b, c, d = orientation
    if not a:
        image = image.swapaxes(0, 1)
    oriented = image[:: (b + d), :: (a + c)]
    return np.ascontiguousarray(oriented)
