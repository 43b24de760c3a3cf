"""Frames as a video file: encoding, exact times, colour tags, and a result that is whole or not there.

Knows encoders and the disk. Knows nothing of where the frames come from.
"""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tokenflow.errors import EncodingError, OutputError, TokenflowError
from tokenflow.video.colour import ACCURATE, MATRICES, Picture
from tokenflow.video.container import reason
from tokenflow.video.encoders import (
    BT709,
    add_video_stream,
    container_for,
    encoder_for,
    matrix_and_range,
    settings,
    written_size,
)
from tokenflow.video.frame_clock import FrameClock
from tokenflow.video.reader import probe
from tokenflow.video.sound import Sound

_MANY = 8
"""From so many pictures on they may be stored in another order than they are shown in."""


class VideoWriter:
    """Writes a clip beside its target and moves it there once it is whole.

    Used as a context manager. If the block ends in an exception, Ctrl-C included, nothing is left behind and what
    was at the target before is untouched. Times are exact in MP4 and MOV; Matroska and WebM hold milliseconds.

    H.264 and HEVC with halved colour need even sizes: an odd picture is widened by repeating its last column or
    row, so that every pixel is kept; `size` tells what is written. `pixel_format="yuv444p"` keeps odd sizes.

    Args:
        path: the file to write; its ending (.mp4, .mov, .mkv, .webm) chooses the container.
        width, height: pixels of the pictures that will be given.
        times: seconds at which each picture is shown, strictly increasing; the first is taken for zero, and there
            have to be as many pictures. Or
        rate: pictures a second. Exactly one of the two.
        end: seconds at which the last picture goes, on the clock of `times`, which it needs; None to show it as long
            as the one before it. MP4 and MOV say so exactly, Matroska and WebM only of the whole file.
        audio_from: a clip whose sound goes along, or None. It is copied as it is where the container can hold it,
            else encoded anew, and ends with the pictures.
        audio_start: seconds from that clip's first picture: the `source_time` of the first picture written.
        codec: h264, hevc, vp9, av1, prores, mjpeg, ffv1 or png; the last two lose nothing.
        quality: the encoder's constant rate factor, lower is better; None for one at which no loss is seen.
        pixel_format: FFmpeg's name, such as `yuv444p`; None for the codec's usual one.
        options: more settings for the encoder, such as `{"preset": "slow"}`.

    Raises:
        OutputError: the file cannot be written; a `EncodingError` if codec, pixels and container do not go together.
        ClipNotFoundError, ClipError: there is no clip to take the sound from, or it cannot be read.
        ValueError: times and rate are not as described.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        times: Sequence[Fraction] | None = None,
        rate: Fraction | int | None = None,
        end: Fraction | None = None,
        audio_from: str | os.PathLike[str] | None = None,
        audio_start: Fraction = Fraction(0),
        codec: str = "h264",
        quality: int | None = None,
        pixel_format: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part")
        self._container = container_for(self._path)
        self._shape = (height, width, 3)
        self._timetable = FrameClock(times, rate, end)
        self._audio = None if audio_from is None else (Path(audio_from), audio_start)
        self._encoder = encoder_for(codec)
        self._pixel_format = pixel_format or self._encoder.pixel_format
        self._options = settings(self._encoder, quality, self.size[0], options)
        self._matrix, self._range = matrix_and_range(self._encoder, self._pixel_format)
        self._reformatter = VideoReformatter()
        self._sound: Sound | None = None
        self._written = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures in the file, in pixels."""
        height, width, _ = self._shape
        return written_size(self._encoder, self._pixel_format, width, height)

    def __enter__(self) -> Self:
        if self._path.is_dir():
            raise OutputError(f"{self._path} is a folder; expected the name of a file to write")
        with self._whole_or_nothing():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._output = av.open(f"file:{self._temporary}", "w", format=self._container)
            self._stream = self._add_stream(self._output)
            if self._audio and probe(self._audio[0]).has_audio:
                self._sound = Sound(self._output, *self._audio)
            self._write_header()
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
            raise ValueError(f"expected a picture {self._shape}, uint8; got {picture.shape}, {picture.dtype}")
        if self._written == self._timetable.count:
            raise ValueError(f"expected {self._timetable.count} pictures, as there are times; got one more")
        frame = self._convert(picture)
        frame.pts, frame.time_base = self._timetable.stamp(self._written), self._timetable.tick
        self._written += 1
        try:
            self._mux(frame)
        except av.FFmpegError as error:
            raise self._failure(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        with self._whole_or_nothing():
            expected = self._timetable.count or max(1, self._written)
            if self._written < expected:
                raise OutputError(f"{self._path}: expected {expected} pictures; got {self._written}")
            self._mux(None)
            if self._sound:
                self._sound.close()
            self._output.close()
            _flush(self._temporary)
            self._temporary.replace(self._path)

    @contextmanager
    def _whole_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._abandon()
            if isinstance(error, av.FFmpegError | OSError) and not isinstance(error, TokenflowError):
                raise self._failure(error) from error
            raise

    def _abandon(self) -> None:
        """Close what is open, whatever it says to that, and leave nothing."""
        with suppress(Exception):
            if self._sound:
                self._sound.close()
        with suppress(Exception):
            self._output.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _add_stream(self, output: OutputContainer) -> VideoStream:
        try:
            stream = add_video_stream(output, self._encoder, self._timetable.rate, self._options)
        except ValueError as error:
            raise self._mismatch(error) from error
        stream.width, stream.height = self.size
        stream.pix_fmt = self._pixel_format
        stream.time_base = self._timetable.tick
        context = stream.codec_context
        context.time_base = self._timetable.tick
        context.color_primaries = context.color_trc = BT709
        context.colorspace, context.color_range = self._matrix, self._range
        few = (self._timetable.count or 0) < _MANY  # of so few, x265 reorders more than there are
        if few or not self._timetable.steady:  # MP4 sums durations in the order of decoding; let it be that of showing
            context.max_b_frames = 0
        return stream

    def _write_header(self) -> None:
        try:
            self._output.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):  # it is the disk that refuses
                raise
            raise self._mismatch(error) from error

    def _convert(self, picture: Picture) -> VideoFrame:
        width, height = self.size
        padding = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
        frame = VideoFrame.from_ndarray(np.pad(picture, padding, mode="edge"), format="rgb24")
        return self._reformatter.reformat(
            frame,
            format=self._pixel_format,
            dst_colorspace=MATRICES.get(self._matrix),
            dst_color_range=self._range,
            interpolation=ACCURATE,
        )

    def _mux(self, frame: VideoFrame | None) -> None:
        """Encode a picture, or what is left after the last one, and take the sound along."""
        for packet in self._stream.encode(frame):
            index = self._timetable.index(packet.pts or 0)
            packet.duration = self._timetable.stamp(index + 1) - self._timetable.stamp(index)
            self._output.mux(packet)
        if self._sound:
            self._sound.mux_until(self._timetable.time(self._written))

    def _failure(self, error: av.FFmpegError | OSError) -> OutputError:
        return OutputError(f"{self._path} cannot be written ({reason(error)}); make room or choose another")

    def _mismatch(self, error: av.FFmpegError | ValueError) -> EncodingError:
        width, height = self.size
        rate = float(self._timetable.rate)
        return EncodingError(
            f"{self._path.name}: {width}×{height} pictures, {rate:g} a second, by {self._encoder.name} in "
            f"{self._pixel_format} cannot be written to {self._container} ({reason(error)}); choose another codec, "
            "pixel format or container"
        )


def _flush(path: Path) -> None:
    """Have the disk take what the system still holds: a full one says so here at the latest."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
