"""Writing clips: encoding, exact frame times, colour tags, audio, and a file that appears only once complete."""

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
from tokenflow.video.clip_file import has_sound
from tokenflow.video.colour import MATRICES, SCALING_FLAGS, RGBImage
from tokenflow.video.container import error_text
from tokenflow.video.encoders import (
    BT709,
    add_video_stream,
    encoded_size,
    encoder_for,
    encoder_options,
    matrix_and_range,
    pixel_format_for,
)
from tokenflow.video.formats import ANIMATIONS, container_for, container_options, default_codec
from tokenflow.video.frame_clock import FrameClock
from tokenflow.video.palette import PaletteFilter
from tokenflow.video.scheduling import usual_scheduling
from tokenflow.video.sound.muxer import AudioMuxer, SoundMode
from tokenflow.video.transparency import Alpha
from tokenflow.video.webp import set_end

_MIN_REORDERED_FRAMES = 8
"""Shorter clips are encoded in presentation order: x265 may otherwise reorder more frames than there are."""


class VideoWriter:
    """Writes a clip to a temporary file next to its target and moves it there once it is complete.

    Use it as a context manager. If the block ends with an exception, including Ctrl-C, the temporary file is deleted
    and an earlier file at the target is untouched. Times are exact in MP4 and MOV; Matroska and WebM store
    milliseconds.

    H.264 and HEVC with subsampled chroma need even sizes: images of odd size are padded by repeating the last column or
    row, so that no pixel is lost; `size` is the size in the file. `pixel_format="yuv444p"` keeps odd sizes.

    Args:
        path: the file to write; its extension (.mp4, .mov, .mkv, .webm, .gif, .webp, .apng) chooses the container.
        width, height: of the images, in pixels.
        times: seconds at which each image is shown, strictly increasing, one per image; the first becomes 0. Or
        rate: frames per second. Exactly one of the two.
        end: seconds, on the same scale as `times`, at which the last image ends; only with `times`. None to show it as
            long as the image before it. MP4 and MOV store it exactly, Matroska and WebM as the duration of the file.
        audio_from: a clip or a file of sound to take the audio from, or None. The audio ends with the video. GIF, WebP
            and APNG hold none.
        audio_start: seconds from the first frame of that clip: the `source_time` of the first image written.
        audio_mode: whether it is copied or encoded; see `SoundMode`.
        codec: h264, hevc, vp9, av1, prores, mjpeg, ffv1 or png; the last two are lossless. None for h264, for vp9 in
            WebM, and for the one codec of GIF, WebP and APNG.
        quality: the encoder's constant rate factor (CRF), lower is better; None for a visually lossless default.
        pixel_format: FFmpeg's name, such as `yuv444p`; None for the codec's default.
        options: further options for the encoder, such as `{"preset": "slow"}`.
        alpha: store the opacity that is given with the images; only codecs that `holds_alpha`.

    Raises:
        OutputError: the file cannot be written; it is an `EncodingError` if codec, pixel format, size and container do
            not go together.
        ClipNotFoundError, ClipError: the clip to copy the audio from does not exist or cannot be read.
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
        audio_mode: SoundMode = "auto",
        codec: str | None = None,
        quality: int | None = None,
        pixel_format: str | None = None,
        options: Mapping[str, str] | None = None,
        alpha: bool = False,
    ) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part")
        self._container = container_for(self._path)
        self._shape = (height, width, 3)
        self._clock = FrameClock(times, rate, end)
        self._audio_source = None if audio_from is None else (Path(audio_from), audio_start)
        self._audio_mode: SoundMode = audio_mode
        self._encoder = encoder_for(codec or default_codec(self._container))
        self._pixel_format = pixel_format or pixel_format_for(self._encoder, alpha=alpha)
        self._alpha = alpha
        self._options = encoder_options(self._encoder, quality, self.size[0], options)
        self._matrix, self._range = matrix_and_range(self._encoder, self._pixel_format)
        self._reformatter = VideoReformatter()
        self._palette = PaletteFilter(*self.size) if self._pixel_format == "pal8" else None
        self._audio: AudioMuxer | None = None
        self._written = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the video in the file, in pixels."""
        height, width, _ = self._shape
        return encoded_size(self._encoder, self._pixel_format, width, height)

    def __enter__(self) -> Self:
        if self._path.is_dir():
            raise OutputError(f"{self._path} is a folder; expected a file name to write to")
        with self._discard_on_error():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            options = container_options(self._container, self._clock.last_duration)
            self._output = av.open(f"file:{self._temporary}", "w", format=self._container, options=options)
            self._stream = self._add_stream(self._output)
            if self._audio_source and self._takes_sound and has_sound(self._audio_source[0]):
                length = None if self._clock.count is None else self._clock.time(self._clock.count)
                self._audio = AudioMuxer(self._output, *self._audio_source, length, self._audio_mode)
            self._write_header()
        return self

    @property
    def _takes_sound(self) -> bool:
        return self._audio_mode != "none" and self._container not in ANIMATIONS

    def write(self, image: RGBImage, alpha: Alpha | None = None) -> None:
        """Encode the next image.

        Args:
            image: (height width 3), uint8, RGB, full range.
            alpha: (height width), uint8, its opacity; None for opaque. Only with `alpha=True`.

        Raises:
            OutputError: the file cannot be written, for example because the disk is full.
            ValueError: the image has another size or dtype, or there are more images than times.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"expected an image {self._shape}, uint8; got {image.shape}, {image.dtype}")
        if self._written == self._clock.count:
            raise ValueError(f"expected {self._clock.count} images, one per time; got one more")
        frame = self._convert(image, alpha)
        frame.pts, frame.time_base = self._clock.pts(self._written), self._clock.time_base
        self._written += 1
        try:
            self._mux(frame)
        except av.FFmpegError as error:
            raise self._output_error(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        with self._discard_on_error():
            expected = self._clock.count or max(1, self._written)
            if self._written < expected:
                raise OutputError(f"{self._path}: expected {expected} images; got {self._written}")
            self._mux(None)
            if self._audio:
                self._audio.close()
            self._output.close()
            if self._container == "webp":
                set_end(self._temporary, self._clock.time(self._written))
            _sync(self._temporary)
            self._temporary.replace(self._path)

    @contextmanager
    def _discard_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._discard()
            if isinstance(error, av.FFmpegError | OSError) and not isinstance(error, TokenflowError):
                raise self._output_error(error) from error
            raise

    def _discard(self) -> None:
        """Close everything, ignoring errors, and delete the temporary file."""
        with suppress(Exception):
            if self._audio:
                self._audio.close()
        with suppress(Exception):
            self._output.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _add_stream(self, output: OutputContainer) -> VideoStream:
        try:
            stream = add_video_stream(output, self._encoder, self._clock.rate, self._options)
        except ValueError as error:
            raise self._encoding_error(error) from error
        stream.width, stream.height = self.size
        stream.pix_fmt = self._pixel_format
        stream.time_base = self._clock.time_base
        context = stream.codec_context
        context.time_base = self._clock.time_base
        context.color_primaries = context.color_trc = BT709
        context.colorspace, context.color_range = self._matrix, self._range
        short = (self._clock.count or 0) < _MIN_REORDERED_FRAMES
        if short or not self._clock.is_constant:  # MP4 adds up durations in decoding order; make it presentation order
            context.max_b_frames = 0
        return stream

    def _write_header(self) -> None:
        try:
            with usual_scheduling():
                self._output.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):  # from the disk, not from the encoder
                raise
            raise self._encoding_error(error) from error

    def _convert(self, image: RGBImage, alpha: Alpha | None) -> VideoFrame:
        width, height = self.size
        padding = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
        if self._alpha or self._palette:
            opacity = np.full(image.shape[:2], 255, np.uint8) if alpha is None else alpha
            image = np.dstack([image, opacity])
        form = "rgba" if image.shape[-1] == 4 else "rgb24"
        frame = VideoFrame.from_ndarray(np.pad(image, padding, mode="edge"), format=form)
        if self._palette:
            return self._palette(frame)
        return self._reformatter.reformat(
            frame,
            format=self._pixel_format,
            dst_colorspace=MATRICES.get(self._matrix),
            dst_color_range=self._range,
            interpolation=SCALING_FLAGS,
        )

    def _mux(self, frame: VideoFrame | None) -> None:
        """Encode a frame, or flush the encoder (None), and copy the audio up to there."""
        for packet in self._stream.encode(frame):
            index = self._clock.index(packet.pts or 0)
            packet.duration = self._clock.pts(index + 1) - self._clock.pts(index)
            self._output.mux(packet)
        if self._audio:
            self._audio.mux_until(self._clock.time(self._written))

    def _output_error(self, error: av.FFmpegError | OSError) -> OutputError:
        return OutputError(f"{self._path} cannot be written ({error_text(error)}); make room or choose another path")

    def _encoding_error(self, error: av.FFmpegError | ValueError) -> EncodingError:
        width, height = self.size
        rate = float(self._clock.rate)
        return EncodingError(
            f"{self._path.name}: {self._container} cannot hold {width}×{height} at {rate:g} fps, encoded by "
            f"{self._encoder.name} in {self._pixel_format} ({error_text(error)}); choose another codec, pixel format "
            "or container"
        )


def _sync(path: Path) -> None:
    """Flush the file to disk, so that a full disk is reported here at the latest."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
