"""Video files by FFmpeg's eyes: opening, seeking, decoding, and going on past damage.

Knows containers and packets. Knows nothing of colours or of what part of a clip is wanted.
"""

import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tokenflow.errors import ClipError, TokenflowWarning
from tokenflow.video.source import USUAL_RATE, Shot, Source

MOST_PIXELS = 2**27
"""More than 16K pictures have; a damaged header may ask for more than there is memory."""

_INDEXED = {"mov", "matroska"}
"""Families of containers that can be entered in the middle: they know where their key frames are."""

_WORTH_SEEKING = 2
"""Seconds; a start nearer than this is reached as fast by decoding."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The file as a container, closed at the end; whatever FFmpeg says against it becomes a `ClipError`.

    The file is opened here and not by FFmpeg, so that its name is never taken for a pattern or an address.
    """
    try:
        with path.open("rb") as file:
            options = {"protocol_whitelist": "file"}
            with av.open(file, "r", container_options=options, metadata_errors="replace") as container:
                yield container
    except (av.FFmpegError, PermissionError, UnicodeDecodeError) as error:
        raise ClipError(f"{path} cannot be read ({_reason(error)}); expected a video file") from error


def open_container(path: Path) -> Source:
    """What the file says of itself.

    Raises:
        ClipError: it is no video file, or has no pictures in it.
    """
    with opened(path) as container:
        stream = picture_stream(container, path)
        return Source(
            rate=_rate(stream),
            pixel_aspect=_pixel_aspect(stream),
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            duration=_duration(container, stream),
            shots=partial(shots, path),
        )


def picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream of moving pictures: the cover of a song is none."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise ClipError(f"{path} has no pictures in it (it holds: {held}); expected a video")


def start_of(container: InputContainer, path: Path) -> Fraction:
    """Where on the file's own clock its first picture is, in seconds."""
    stream = picture_stream(container, path)
    return (stream.start_time or 0) * (stream.time_base or Fraction(1))


def shots(path: Path, start: Fraction) -> Generator[Shot]:
    """All pictures from some time before `start` on.

    Args:
        path: the file.
        start: seconds from the first picture.

    Raises:
        ClipError: not one picture can be decoded.
    """
    with opened(path) as container:
        stream = picture_stream(container, path)
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        damage = _Damage(path)
        origin: Fraction | None = None
        previous = Fraction(-1)
        for frame in _decode(container, stream, start, damage):
            time, tick = _time(frame, stream), stream.time_base or 1 / _rate(stream)
            if time is None:
                time, tick = previous + (origin or 0), 1 / _rate(stream)
            if origin is None:
                origin = time
            previous = max(time - origin, previous + tick) if previous >= 0 else time - origin
            yield Shot(frame, previous)
        if origin is None:
            raise ClipError(f"{path} has no picture in it that can be decoded; it is damaged or empty")
        damage.warn()


class _Damage:
    """How many packets were unreadable, to be said once at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packets = 0
        self._reason = ""

    def note(self, reason: str) -> None:
        self._packets += 1
        self._reason = reason

    def warn(self) -> None:
        if self._packets:
            warnings.warn(
                f"{self._path} is damaged or cut off ({self._reason}); what can be decoded of it is used",
                TokenflowWarning,
                stacklevel=2,
            )


def _decode(
    container: InputContainer, stream: VideoStream, start: Fraction, damage: _Damage
) -> Iterator[VideoFrame]:
    for packet in _packets(container, stream, damage):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            damage.note(_reason(error))
            continue
        yield from frames


def _packets(
    container: InputContainer, stream: VideoStream, damage: _Damage
) -> "Iterator[Packet[VideoStream]]":
    """The stream's packets, the flushing one included; an error in reading ends them early."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            damage.note(_reason(error))
            return
        if packet.is_corrupt:
            damage.note("a packet is incomplete")
        yield packet


def _time(frame: VideoFrame, stream: VideoStream) -> Fraction | None:
    base = frame.time_base or stream.time_base
    return None if frame.pts is None or not base else frame.pts * Fraction(base)


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate)
    return USUAL_RATE


def _pixel_aspect(stream: VideoStream) -> Fraction:
    """Width over height of a pixel; what no camera has is taken for a mistake in the header."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 8) <= aspect <= 8 else Fraction(1)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def _reason(error: BaseException) -> str:
    """FFmpeg's own words without the number and the file that Python puts around them."""
    return str(getattr(error, "strerror", None) or error)
