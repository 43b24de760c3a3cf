"""Which encoders and containers a clip can be written with, and what they want. Knows no file and no picture."""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from tokenflow.errors import OutputError
from tokenflow.video.decoder import DEFAULT_RATE


@dataclass(frozen=True)
class Encoder:
    """An encoder and how it is used.

    Attributes:
        name: FFmpeg's name of it.
        pixel_format: what it is given if nothing else is asked for.
        quality: its constant rate factor if nothing else is asked for; None if it has none.
        options: settings that are always made.
        even: whether it needs sizes that its smaller colour planes divide.
    """

    name: str
    pixel_format: str
    quality: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    even: bool = False


_ENCODERS = {
    "h264": Encoder("libx264", "yuv420p", 17, even=True),
    "hevc": Encoder("libx265", "yuv420p", 20, {"x265-params": "log-level=error"}, even=True),
    "vp9": Encoder("libvpx-vp9", "yuv420p", 24),
    "av1": Encoder("libsvtav1", "yuv420p", 24),
    "prores": Encoder("prores_ks", "yuv422p10le"),
    "mjpeg": Encoder("mjpeg", "yuvj420p"),
    "ffv1": Encoder("ffv1", "bgr0"),
    "png": Encoder("png", "rgb24"),
}
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}

BT709 = 1
"""The number of ITU-T H.273 for BT.709's matrix, primaries and transfer alike."""

_NO_MATRIX, _BT601 = 0, 5


def encoder_for(codec: str) -> Encoder:
    """The encoder for a codec by its common name.

    Raises:
        OutputError: none is known.
    """
    if codec not in _ENCODERS:
        raise OutputError(f"codec {codec!r} is not known; expected one of {', '.join(_ENCODERS)}")
    return _ENCODERS[codec]


def container_for(path: Path) -> str:
    """The container that a file's ending stands for, by FFmpeg's name.

    Raises:
        OutputError: none is known.
    """
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise OutputError(f"{path}: no container is known by that ending; use one of {', '.join(_CONTAINERS)}")
    return container


def holds(container: str, codec: str, width: int = 64, height: int = 64, rate: Fraction = DEFAULT_RATE) -> bool:
    """Whether files of an ending such as `mp4` take a codec, of pictures of such a size and so many a second.

    It is tried, since FFmpeg's lists promise more than is kept.
    """
    encoder = encoder_for(codec)
    with av.open(io.BytesIO(), "w", format=container_for(Path(f"a.{container}"))) as trial:
        try:
            stream = add_video_stream(trial, encoder, rate, settings(encoder, None, width, None))
            stream.width, stream.height = written_size(encoder, encoder.pixel_format, width, height)
            stream.pix_fmt = encoder.pixel_format
            trial.start_encoding()
        except (av.FFmpegError, ValueError):
            return False
    return True


def add_video_stream(
    output: OutputContainer, encoder: Encoder, rate: Fraction, options: Mapping[str, str]
) -> VideoStream:
    """Add a video stream with this encoder to an output file.

    Args:
        output: the file.
        encoder: which encoder.
        rate: frames per second.
        options: FFmpeg options for the encoder, as `settings` returns them.

    Raises:
        ValueError: this build of FFmpeg lacks the encoder, or the container does not support it.
    """
    if encoder.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 has no other way to silence its log
    stream = output.add_stream(encoder.name, rate=rate, options=dict(options))
    if not isinstance(stream, VideoStream):
        raise TypeError(f"expected a video encoder; got {encoder.name}")
    return stream


def settings(encoder: Encoder, quality: int | None, width: int, options: Mapping[str, str] | None) -> dict[str, str]:
    """All options for the encoder; those given go before its own.

    Args:
        encoder: which one.
        quality: its constant rate factor; None for its usual one.
        width: of the pictures, in pixels.
        options: given by the user.

    Raises:
        OutputError: a quality is asked of an encoder that has none to set.
    """
    if encoder.quality is None:
        if quality is not None:
            raise OutputError(f"{encoder.name} has no quality to set; leave quality out or choose h264")
        return {**encoder.options, **(options or {})}
    rate_factor = encoder.quality if quality is None else quality
    return {**encoder.options, **_repeatable(encoder, width), "crf": str(rate_factor), **(options or {})}


def _repeatable(encoder: Encoder, width: int) -> dict[str, str]:
    """What it takes for the same pictures to give the same file each time.

    Where a row of x264's macroblocks does not fill its vectors of eight, its macroblock tree weighs blocks by what
    happens to lie in memory behind the row: one file in a few hundred came out different.
    """
    partly_filled = -(-width // 16) % 8 != 0
    return {"mbtree": "0"} if encoder.name == "libx264" and partly_filled else {}


def written_size(encoder: Encoder, pixel_format: str, width: int, height: int) -> tuple[int, int]:
    """The size in pixels, widened to what the encoder takes."""
    if not encoder.even:
        return width, height
    colour = min(_layout(pixel_format).components, key=lambda component: component.width * component.height)
    across, down = 16 // colour.width, 16 // colour.height
    return -(-width // across) * across, -(-height // down) * down


def matrix_and_range(encoder: Encoder, pixel_format: str) -> tuple[int, int]:
    """How colours are to be coded and tagged, in numbers of ITU-T H.273; JPEG knows but one way."""
    if encoder.name == "mjpeg":
        return _BT601, int(ColorRange.JPEG)
    if _layout(pixel_format).is_rgb:
        return _NO_MATRIX, int(ColorRange.JPEG)
    return BT709, int(ColorRange.MPEG)


def _layout(pixel_format: str) -> av.VideoFormat:
    """The planes of a pixel format, for a picture of 16×16.

    Raises:
        OutputError: FFmpeg knows none of that name.
    """
    try:
        return av.VideoFormat(pixel_format, 16, 16)
    except ValueError as error:
        raise OutputError(f"pixel format {pixel_format!r} is not known; use one such as yuv420p") from error
