"""The encoders a clip can be written with, and the settings they need."""

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from tokenflow.errors import OutputError
from tokenflow.video.decoder import DEFAULT_RATE
from tokenflow.video.formats import container_for, default_codec
from tokenflow.video.scheduling import usual_scheduling


@dataclass(frozen=True)
class Encoder:
    """A video encoder and its default settings.

    Attributes:
        name: FFmpeg's name of the encoder.
        pixel_format: default pixel format.
        quality: default constant rate factor (CRF); None if the encoder has none.
        options: options that are always set.
        chroma_aligned: whether width and height have to be multiples of the chroma subsampling.
        tag: code of the codec in MP4 and MOV; None for FFmpeg's choice.
        alpha_format: pixel format for images with transparency; None if the codec holds none.
        max_rate: frames per second; None for any.
    """

    name: str
    pixel_format: str
    quality: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    chroma_aligned: bool = False
    tag: str | None = None
    alpha_format: str | None = None
    max_rate: int | None = None


_ENCODERS = {
    "h264": Encoder("libx264", "yuv420p", 17, chroma_aligned=True),
    "hevc": Encoder("libx265", "yuv420p", 20, {"x265-params": "log-level=error"}, chroma_aligned=True, tag="hvc1"),
    "vp9": Encoder("libvpx-vp9", "yuv420p", 24, alpha_format="yuva420p"),
    "av1": Encoder("libsvtav1", "yuv420p", 24),
    "prores": Encoder("prores_ks", "yuv422p10le", alpha_format="yuva444p10le"),
    "mjpeg": Encoder("mjpeg", "yuvj420p"),
    "ffv1": Encoder("ffv1", "bgr0", alpha_format="bgra"),
    "png": Encoder("png", "rgb24", alpha_format="rgba"),
    "gif": Encoder("gif", "pal8", alpha_format="pal8", max_rate=50),  # browsers show shorter delays for 100 ms
    "webp": Encoder("libwebp_anim", "bgra", options={"quality": "90"}, alpha_format="bgra"),
    "apng": Encoder("apng", "rgb24", alpha_format="rgba"),
}
BT709 = 1
"""The number of BT.709 in ITU-T H.273, as matrix, primaries and transfer."""

_NO_MATRIX, _BT601 = 0, 5
"""Matrix coefficients of ITU-T H.273."""


def encoder_for(codec: str) -> Encoder:
    """The encoder for a codec, by the codec's common name.

    Raises:
        OutputError: the codec is unknown.
    """
    if codec not in _ENCODERS:
        raise OutputError(f"unknown codec {codec!r}; expected one of {', '.join(_ENCODERS)}")
    return _ENCODERS[codec]


def holds(container: str, codec: str | None, width: int = 64, height: int = 64, rate: Fraction = DEFAULT_RATE) -> bool:
    """Whether files with an extension such as `mp4` can hold a codec, at this size in pixels and frames per second.

    None is the default codec. This opens the encoder to find out, as FFmpeg's own tables list combinations that fail.

    Raises:
        OutputError: the extension or the codec is unknown.
    """
    name = container_for(Path(f"a.{container}"))
    encoder = encoder_for(codec or default_codec(name))
    held = False
    with suppress(av.FFmpegError, ValueError), av.open(io.BytesIO(), "w", format=name) as trial:
        stream = add_video_stream(trial, encoder, rate, encoder_options(encoder, None, width, None))
        stream.width, stream.height = encoded_size(encoder, encoder.pixel_format, width, height)
        stream.pix_fmt = encoder.pixel_format
        with usual_scheduling():
            trial.start_encoding()
        held = True  # even if closing the file, which has no frames, fails
    return held


def add_video_stream(
    output: OutputContainer, encoder: Encoder, rate: Fraction, options: Mapping[str, str]
) -> VideoStream:
    """Add a video stream with this encoder to an output file.

    Args:
        output: the file.
        encoder: which encoder.
        rate: frames per second.
        options: FFmpeg options for the encoder, see `encoder_options`.

    Raises:
        ValueError: this build of FFmpeg lacks the encoder, or the container or the rate is not one that it supports.
    """
    if encoder.max_rate and rate > encoder.max_rate:
        raise ValueError(f"it shows {encoder.max_rate} frames per second at most; set clip.rate to {encoder.max_rate}")
    if encoder.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 has no other way to silence its log
    stream = output.add_stream(encoder.name, rate=rate, options=dict(options))
    if not isinstance(stream, VideoStream):
        raise TypeError(f"expected a video encoder; got {encoder.name}")
    if encoder.tag and output.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = encoder.tag  # QuickTime and Safari do not play HEVC with FFmpeg's own, hev1
    return stream


def encoder_options(
    encoder: Encoder, quality: int | None, width: int, options: Mapping[str, str] | None
) -> dict[str, str]:
    """All options for an encoder; the user's override the defaults.

    Args:
        encoder: which encoder.
        quality: constant rate factor (CRF); None for the encoder's default.
        width: of the video, in pixels.
        options: the user's options.

    Raises:
        OutputError: quality is set, but the encoder has no such setting.
    """
    if encoder.quality is None:
        if quality is not None:
            raise OutputError(f"{encoder.name} has no quality setting; leave quality out or choose h264")
        return {**encoder.options, **(options or {})}
    crf = encoder.quality if quality is None else quality
    return {**encoder.options, **_reproducible_options(encoder, width), "crf": str(crf), **(options or {})}


def _reproducible_options(encoder: Encoder, width: int) -> dict[str, str]:
    """Options that make the same frames give the same file every time.

    If a row of macroblocks does not fill x264's vectors of eight, its macroblock tree reads uninitialised memory
    behind the row: one file in a few hundred came out different.
    """
    partly_filled = -(-width // 16) % 8 != 0
    return {"mbtree": "0"} if encoder.name == "libx264" and partly_filled else {}


def encoded_size(encoder: Encoder, pixel_format: str, width: int, height: int) -> tuple[int, int]:
    """The size in pixels, rounded up to what the encoder supports."""
    if not encoder.chroma_aligned:
        return width, height
    chroma = min(_video_format(pixel_format).components, key=lambda component: component.width * component.height)
    across, down = 16 // chroma.width, 16 // chroma.height
    return -(-width // across) * across, -(-height // down) * down


def holds_alpha(container: str, codec: str | None) -> bool:
    """Whether files with an extension such as `webm` hold transparency with a codec, or with their default.

    Raises:
        OutputError: the extension or the codec is unknown.
    """
    name = container_for(Path(f"a.{container}"))
    return encoder_for(codec or default_codec(name)).alpha_format is not None


def pixel_format_for(encoder: Encoder, *, alpha: bool) -> str:
    """The pixel format of an encoder.

    Raises:
        OutputError: images have transparency, but the encoder holds none.
    """
    if not alpha:
        return encoder.pixel_format
    if encoder.alpha_format is None:
        raise OutputError(f"{encoder.name} holds no transparency; choose vp9, prores, ffv1 or png, or leave alpha out")
    return encoder.alpha_format


def matrix_and_range(encoder: Encoder, pixel_format: str) -> tuple[int, int]:
    """The matrix (a number of ITU-T H.273) and colour range to encode and tag with; JPEG supports only one choice."""
    if encoder.name == "mjpeg":
        return _BT601, int(ColorRange.JPEG)
    if _video_format(pixel_format).is_rgb:
        return _NO_MATRIX, int(ColorRange.JPEG)
    return BT709, int(ColorRange.MPEG)


def _video_format(pixel_format: str) -> av.VideoFormat:
    """The layout of a pixel format, for a frame of 16×16.

    Raises:
        OutputError: the pixel format is unknown.
    """
    try:
        return av.VideoFormat(pixel_format, 16, 16)
    except ValueError as error:
        raise OutputError(f"unknown pixel format {pixel_format!r}; use one such as yuv420p") from error


def missing_codecs() -> list[str]:
    """Values of `output.codec` that the FFmpeg in PyAV has no encoder for, in order."""
    return sorted(codec for codec, encoder in _ENCODERS.items() if encoder.name not in av.codecs_available)
