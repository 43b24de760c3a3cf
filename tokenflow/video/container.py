"""Opening video files with PyAV, and reading their packets, tolerant of corrupt input.

Truncation is reported where the format reveals it: AVI, GIF and MPEG transport streams may end after any frame.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from tokenflow.errors import ClipError
from tokenflow.events import notice
from tokenflow.video.continuity import Continuity

_SILENTLY_TRUNCATED_FORMATS = {"matroska"}
"""Formats of which FFmpeg does not report the truncation."""

_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
"""Text that FFmpeg renders as a terminal would; it takes any file of certain suffixes for it, such as .txt and .bin."""

_DURATION_TOLERANCE = Fraction(1, 5)
"""Seconds by which the duration in a header may exceed the actual one."""


@contextmanager
def open_input(path: Path) -> Iterator[InputContainer]:
    """Open a file for demuxing; errors of FFmpeg are raised as `ClipError`.

    The path is never interpreted as a URL, and playlists cannot access the network.
    """
    try:
        options = {"protocol_whitelist": "file"}
        with av.open(f"file:{path}", "r", container_options=options, metadata_errors="replace") as container:
            if container.format.name in _TEXT_FORMATS:
                raise ClipError(f"{path} cannot be read (it holds text); expected a video file")
            yield container
    except av.FFmpegError as error:
        raise ClipError(f"{path} cannot be read ({error_text(error)}); expected a video file") from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream that players show.

    Raises:
        ClipError: no video stream can be decoded, or it is one tile of an image.
    """
    tiles = [each for each in container.streams.video if each.frames == 1 and each.disposition & Disposition.dependent]
    if tiles:  # of HEIF; FFmpeg's grouping of them is not available in PyAV
        raise ClipError(f"{path} is an image of {len(tiles)} tiles, which cannot be read; save it as PNG or JPEG")
    stream = find_video_stream(container)
    if stream is None:
        held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise ClipError(f"{path} has no video stream that can be decoded (it holds: {held}); expected a video")
    return stream


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """The stream that players show, or None.

    One picture is a thumbnail if there are streams of more. Of the others it is FFmpeg's choice, by default flag,
    number of frames and bit rate.
    """
    streams = video_streams(container)
    moving = [stream for stream in streams if stream.frames != 1] or streams
    best = container.streams.best("video")
    return next((stream for stream in moving if stream == best), next(iter(moving), None))


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams that can be decoded; cover art does not count."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic
    ]


def audio_stream(container: InputContainer) -> av.AudioStream | None:
    """The audio stream that players play: the first with a default flag, else the first; or None."""
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    flagged = (stream for stream in known if stream.disposition & Disposition.default)
    return next(flagged, next(iter(known), None))


class CorruptionLog:
    """Collects what is corrupt in a file, and warns once.

    Args:
        path: the file.
        silent: never warn, where the same part is read again.
    """

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self._path = path
        self._reason: str | None = None
        self._warned = silent

    def record(self, reason: str) -> None:
        """Record why a part of the file cannot be decoded."""
        self._reason = reason

    def warn(self) -> None:
        """Warn if corruption was recorded, unless there was a warning before."""
        if self._reason and not self._warned:
            self._warned = True
            notice(f"{self._path} is damaged or truncated ({self._reason}); only the part that can be decoded is used")


def read_packets(container: InputContainer, stream: Stream, corruption: CorruptionLog) -> "Iterator[Packet[Stream]]":
    """The packets of a stream, up to the first read error, with time stamps that go on at joins."""
    latest = Fraction(0)
    continuity = Continuity(container)
    try:
        for packet in container.demux():
            if packet.pts is not None:
                latest = max(latest, (packet.pts + (packet.duration or 0)) * packet.time_base)
            continuity.correct(packet)
            if packet.stream_index != stream.index or not packet.size:
                continue  # an empty packet would flush the decoder
            if packet.is_corrupt:
                corruption.record("a packet is incomplete")
            yield packet
    except av.FFmpegError as error:
        corruption.record(error_text(error))
    if latest < _declared_duration(container) - _DURATION_TOLERANCE:
        corruption.record(f"it ends after {float(latest):.1f} s")


def _declared_duration(container: InputContainer) -> Fraction:
    """Seconds according to the header if only a comparison with it reveals truncation, else 0."""
    silent = _SILENTLY_TRUNCATED_FORMATS & set(container.format.name.split(","))
    return Fraction(container.duration or 0, av.time_base) if silent else Fraction(0)


def error_text(error: BaseException) -> str:
    """FFmpeg's message, without the error number and file name that Python adds."""
    return str(getattr(error, "strerror", None) or error)
