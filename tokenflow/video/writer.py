"""Frames as a video file: encoding, exact times, colour tags, and a result that is whole or not there.

Knows encoders and containers. Knows nothing of where the frames come from.
"""

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from tokenflow.errors import OutputError
from tokenflow.video.colour import ACCURATE, Picture
from tokenflow.video.sound import Sound


@dataclass(frozen=True)
class _Codec:
    """An encoder, the pixels it is given by default, and its setting for constant quality."""

    encoder: str
    pixel_format: str
    quality: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


_CODECS = {
    "h264": _Codec("libx264", "yuv420p", 17),
    "hevc": _Codec("libx265", "yuv420p", 20, {"x265-params": "log-level=error"}),
    "vp9": _Codec("libvpx-vp9", "yuv420p", 24),
    "av1": _Codec("libsvtav1", "yuv420p", 24),
    "prores": _Codec("prores_ks", "yuv422p10le"),
    "mjpeg": _Codec("mjpeg", "yuvj420p"),
    "ffv1": _Codec("ffv1", "bgr0"),
    "png": _Codec("png", "rgb24"),
}
_CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
}
_FINEST = 90_000
"""Ticks a second where times have no common measure that a container can hold."""


class VideoWriter:
    """Writes a clip beside its target and moves it there once it is whole.

    Used as a context manager. If the block ends in an exception, Ctrl-C included, nothing is left behind.
    H.264, HEVC and others with halved colour need even sizes: an odd picture is widened by repeating its
    last column or row, so that every pixel is kept; `size` tells what is written. `pixel_format="yuv444p"`
    keeps odd sizes.

    Args:
        path: the file to write; its ending chooses the container.
        width, height: pixels of the pictures that will be given.
        times: seconds at which each picture is shown, strictly increasing; the first is taken for zero. Or
        rate: pictures a second. Exactly one of the two.
        audio_from: a clip whose sound is to go along, or None.
        audio_start: the `source_time`, in seconds, of the first picture in that clip.
        codec: h264, hevc, vp9, av1, prores, mjpeg, ffv1 or png (the last two lose nothing).
        quality: the encoder's constant rate factor (lower is better); None for one that hides nothing.
        pixel_format: FFmpeg's name, such as `yuv444p`; None for the codec's usual one.
        options: more settings for the encoder, such as `{"preset": "slow"}`.

    Raises:
        OutputError: the file cannot be written, or the container does not take the codec.
        ValueError: the arguments contradict each other.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        times: Sequence[Fraction] | None = None,
        rate: Fraction | int | None = None,
        audio_from: str | os.PathLike[str] | None = None,
        audio_start: Fraction = Fraction(0),
        codec: str = "h264",
        quality: int | None = None,
        pixel_format: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._path = Path(path)
        self._shape = (height, width, 3)
        self._clock = _Clock(times, rate)
        self._audio = None if audio_from is None else (Path(audio_from), audio_start)
        self._codec = _codec(codec)
        self._pixel_format = pixel_format or self._codec.pixel_format
        self._options = {**self._codec.options, **_quality(codec, self._codec, quality), **(options or {})}
        self._written = 0
        self._sound: Sound | None = None
        self._reformatter = VideoReformatter()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the file's pictures, in pixels: those given, or one more."""
        height, width, _ = self._shape
        across, down = _subsampling(self._pixel_format)
        return width + width % across, height + height % down

    def __enter__(self) -> Self:
        container = _CONTAINERS.get(self._path.suffix.lower())
        if container is None:
            raise OutputError(f"{self._path}: no such container; end the name in {', '.join(_CONTAINERS)}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                prefix=f".{self._path.name}.", suffix=".part", dir=self._path.parent
            )
            os.close(handle)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written ({error.strerror}); choose another") from error
        self._temporary = Path(name)
        try:
            self._output = av.open(f"file:{name}", "w", format=container)
            self._stream = self._add_stream(self._output)
            if self._audio:
                self._sound = Sound(self._output, *self._audio)
        except BaseException:
            self._abandon()
            raise
        return self

    def write(self, picture: Picture) -> None:
        """Encode the next picture.

        Args:
            picture: (height width 3), uint8, RGB, full range.

        Raises:
            OutputError: the disk is full, or the place is gone.
            ValueError: the picture has another size or type, or there are more pictures than times.
        """
        if picture.shape != self._shape or picture.dtype != np.uint8:
            raise ValueError(
                f"expected a picture {self._shape} of uint8; got {picture.shape}, {picture.dtype}"
            )
        frame = self._convert(picture)
        frame.pts, frame.time_base = self._clock.ticks(self._written), self._clock.base
        try:
            self._output.mux(self._stream.encode(frame))
            if self._sound:
                self._sound.mux_until(self._clock.time(self._written))
        except av.FFmpegError as error:
            raise self._failure(error) from error
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._finish()
        except BaseException as failure:
            self._abandon()
            if isinstance(failure, OSError) and not isinstance(failure, OutputError):
                raise self._failure(failure) from failure
            raise

    def _finish(self) -> None:
        if not self._written:
            raise OutputError(f"{self._path}: no picture was given; expected at least one")
        self._output.mux(self._stream.encode(None))
        if self._sound:
            self._sound.mux_until(self._clock.end(self._written))
            self._sound.close()
        self._output.close()
        _flush(self._temporary)
        self._temporary.replace(self._path)

    def _abandon(self) -> None:
        """Close what is open, whatever it says to that, and leave nothing."""
        with suppress(Exception):
            if self._sound:
                self._sound.close()
        with suppress(Exception):
            self._output.close()
        self._temporary.unlink(missing_ok=True)

    def _add_stream(self, output: OutputContainer) -> VideoStream:
        stream = output.add_stream(self._codec.encoder, rate=self._clock.rate, options=dict(self._options))
        if not isinstance(stream, VideoStream):
            raise TypeError
        stream.width, stream.height = self.size
        stream.pix_fmt = self._pixel_format
        stream.codec_context.time_base = self._clock.base
        stream.time_base = self._clock.base
        return stream

    def _convert(self, picture: Picture) -> VideoFrame:
        width, height = self.size
        padding = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
        frame = VideoFrame.from_ndarray(np.pad(picture, padding, mode="edge"), format="rgb24")
        return self._reformatter.reformat(
            frame,
            format=self._pixel_format,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=ACCURATE,
        )

    def _failure(self, error: av.FFmpegError | OSError) -> OutputError:
        return OutputError(f"{self._path} cannot be written ({error.strerror}); make room or choose another")


class _Clock:
    """When each picture is shown, in whole ticks of a base that holds all times exactly where one can."""

    def __init__(self, times: Sequence[Fraction] | None, rate: Fraction | int | None) -> None:
        if (times is None) == (rate is None):
            raise ValueError("expected either times or rate")
        self._times = None if times is None else [Fraction(time) - Fraction(times[0]) for time in times]
        if self._times is None:
            self.rate = Fraction(rate or 0)
            if self.rate <= 0:
                raise ValueError(f"expected a rate above 0; got {rate}")
            self.base = 1 / self.rate
            return
        gaps = [after - before for before, after in zip(self._times, self._times[1:], strict=False)]
        if any(gap <= 0 for gap in gaps):
            raise ValueError("expected times that increase from picture to picture")
        self.rate = (len(gaps) / self._times[-1]).limit_denominator(100_000) if gaps else Fraction(25)
        self.base = _common_measure(gaps) if gaps else 1 / self.rate

    def time(self, index: int) -> Fraction:
        if self._times is None:
            return index / self.rate
        if index >= len(self._times):
            raise ValueError(f"there are only {len(self._times)} times; got a picture more")
        return self._times[index]

    def ticks(self, index: int) -> int:
        return round(self.time(index) / self.base)

    def end(self, count: int) -> Fraction:
        """When the last of `count` pictures goes: it is shown as long as the one before it."""
        last = self.time(count - 1)
        return last + (last - self.time(count - 2) if count > 1 else 1 / self.rate)


def _common_measure(gaps: Sequence[Fraction]) -> Fraction:
    """The longest time of which all gaps are multiples, in seconds, or 1/90000 where that is finer still."""
    denominator = math.lcm(*(gap.denominator for gap in gaps))
    measure = Fraction(math.gcd(*(int(gap * denominator) for gap in gaps)), denominator)
    return measure if measure.denominator <= 1_000_000 else Fraction(1, _FINEST)


def _codec(name: str) -> _Codec:
    if name not in _CODECS:
        raise OutputError(f"codec {name!r} is not known; expected one of {', '.join(_CODECS)}")
    return _CODECS[name]


def _quality(name: str, codec: _Codec, quality: int | None) -> dict[str, str]:
    if codec.quality is None:
        if quality is not None:
            raise OutputError(f"codec {name} has no quality to set; leave it out")
        return {}
    return {"crf": str(codec.quality if quality is None else quality), "b": "0"}


def _subsampling(pixel_format: str) -> tuple[int, int]:
    """Of how many pixels width and height have to be multiples."""
    layout = av.VideoFormat(pixel_format, 16, 16)
    colour = min(layout.components, key=lambda component: component.width * component.height)
    return 16 // colour.width, 16 // colour.height


def _flush(path: Path) -> None:
    """Have the disk take what the system still holds: a full one says so here at the latest."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
