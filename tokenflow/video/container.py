"""Demuxing and decoding with PyAV, tolerant of corrupt input.

Truncation is reported where the format reveals it: AVI, GIF and MPEG transport streams may end after any frame.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

import av
import cv2
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tokenflow.errors import ClipError
from tokenflow.events import notice
from tokenflow.video.decoder import DEFAULT_RATE, DecodedFrame, Decoder
from tokenflow.video.deinterlace import deinterlace

_MAX_PIXELS = 2**27
"""More than a 16K frame has; damaged headers can ask for more than there is memory."""

_MAX_THREADS = 16
"""Of a decoder, as in FFmpeg's own default: each keeps frames in memory."""

_SEEKABLE_FORMATS = {"mov", "matroska"}
"""Formats with an index of key frames, in which seeking is reliable."""

_UNTIMED_FORMATS = {"h264", "hevc", "m4v", "mpegvideo", "obu"}
"""Elementary streams: they store no time stamps, so frames are counted."""

_SILENTLY_TRUNCATED_FORMATS = {"matroska"}
"""Formats of which FFmpeg does not report the truncation."""

_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
"""Text that FFmpeg renders as a terminal would; it takes any file of certain suffixes for it, such as .txt and .bin."""

_DURATION_TOLERANCE = Fraction(1, 5)
"""Seconds by which the duration in a header may exceed the actual one."""

_MIN_SEEK_START = 2
"""Seconds; decoding from the beginning reaches earlier starts as fast."""


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


def open_video(path: Path) -> Decoder:
    """A decoder for a video file.

    Raises:
        ClipError: it is not a video file, or has no video stream.
    """
    with open_input(path) as container:
        stream = video_stream(container, path)
        return Decoder(
            rate=_rate(stream),
            pixel_aspect=_pixel_aspect(stream),
            has_audio=audio_stream(container) is not None,
            codec=stream.codec_context.name,
            profile=stream.codec_context.profile,
            duration=_duration(container, stream),
            decode=partial(_decode, path),
        )


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that can be decoded; cover art does not count.

    Raises:
        ClipError: there is none.
    """
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise ClipError(f"{path} has no video stream that can be decoded (it holds: {held}); expected a video")


def audio_stream(container: InputContainer) -> av.AudioStream | None:
    """The first audio stream with a known codec, or None."""
    known = (stream for stream in container.streams.audio if stream.codec_context is not None)
    return next(known, None)


def video_start_time(container: InputContainer, path: Path) -> Fraction:
    """When the first frame is shown, in seconds, by the time stamps of the file."""
    stream = video_stream(container, path)
    return (stream.start_time or 0) * (stream.time_base or Fraction(1))


def should_seek(container: InputContainer, start: Fraction) -> bool:
    """Whether seeking to a start, in seconds, is reliable and faster than reading from the beginning."""
    return start > _MIN_SEEK_START and bool(_SEEKABLE_FORMATS & set(container.format.name.split(",")))


class CorruptionLog:
    """Collects what is corrupt in a file, and warns once.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reason: str | None = None
        self._warned = False

    def record(self, reason: str) -> None:
        """Record why a part of the file cannot be decoded."""
        self._reason = reason

    def warn(self) -> None:
        """Warn if corruption was recorded, unless there was a warning before."""
        if self._reason and not self._warned:
            self._warned = True
            notice(f"{self._path} is damaged or truncated ({self._reason}); only the part that can be decoded is used")


def read_packets(container: InputContainer, stream: Stream, corruption: CorruptionLog) -> "Iterator[Packet[Stream]]":
    """The packets of a stream, up to the first read error."""
    latest = Fraction(0)
    try:
        for packet in container.demux():
            if packet.pts is not None:
                latest = max(latest, (packet.pts + (packet.duration or 0)) * packet.time_base)
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


def _decode(path: Path, start: Fraction) -> Generator[DecodedFrame]:
    """All frames from `start` on, in seconds from the first frame; earlier frames may come first.

    Raises:
        ClipError: no frame can be decoded.
    """
    with open_input(path) as container:
        stream = video_stream(container, path)
        corruption = CorruptionLog(path)
        decoder = _create_decoder(stream)
        frames = _decode_packets(read_packets(container, stream, corruption), decoder, corruption)
        first = next(frames, None)
        if first is None:
            raise ClipError(
                f"{path} contains no frames that can be decoded; it is damaged or empty, or an animated image with the "
                "wrong extension (such as .mp4 for a .webp)"
            )
        clock = _PresentationClock(container, stream, first)
        if should_seek(container, start):
            packets = _seek_packets(container, stream, clock.pts(start), corruption)
            decoder.flush_buffers()
            frames = _decode_packets(packets, decoder, corruption)
        else:
            frames = chain([first], frames)
        timed = (DecodedFrame(frame, clock.time(frame), clock.duration(frame)) for frame in frames)
        for decoded in deinterlace(timed):
            corruption.warn()
            yield decoded
        corruption.warn()


class _PresentationClock:
    """When frames are shown, in seconds from the first frame; strictly increasing even if the time stamps are not."""

    def __init__(self, container: InputContainer, stream: VideoStream, first: VideoFrame) -> None:
        self._time_base = stream.time_base or Fraction(1, av.time_base)
        # AVI has no time stamps either, and FFmpeg guesses them wrong for streams with reordered frames
        reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        self._untimed = reordered or container.format.name in _UNTIMED_FORMATS
        self._rate = _rate(stream)
        self._constant = stream.average_rate == stream.base_rate
        self._origin = first.pts or 0
        self._previous: Fraction | None = None
        self._gap = 1 / self._rate

    def time(self, frame: VideoFrame) -> Fraction:
        """When the frame is shown; call it once per frame, in presentation order."""
        if self._untimed or frame.pts is None:
            time = Fraction(0) if self._previous is None else self._previous + 1 / self._rate
        else:
            time = self._undo_rounding((frame.pts - self._origin) * self._time_base)
        if self._previous is not None:
            time = time if time > self._previous else self._previous + self._time_base
            self._gap = time - self._previous
        self._previous = time
        return time

    def duration(self, frame: VideoFrame) -> Fraction:
        """How long the frame of the last call of `time` is shown; if unknown, as long as the frame before it."""
        declared = frame.duration * self._time_base
        return self._gap if self._untimed or declared <= 0 else self._undo_rounding(declared) or declared

    def _undo_rounding(self, time: Fraction) -> Fraction:
        """The exact time at a constant rate, which the container had to round to its time base."""
        exact = round(time * self._rate) / self._rate
        return exact if self._constant and abs(exact - time) <= self._time_base else time

    def pts(self, time: Fraction) -> int:
        """The time stamp of a time in seconds."""
        return self._origin + int(time / self._time_base)


def _create_decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream; for VP8 and VP9 with alpha that is libvpx, as FFmpeg's own decoders drop the alpha."""
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in ("vp8", "vp9"):
        created = CodecContext.create("libvpx" if decoder.name == "vp8" else "libvpx-vp9", "r")
        if isinstance(created, VideoCodecContext):
            decoder = created
    decoder.thread_type = "AUTO"
    decoder.thread_count = min(cv2.getNumThreads(), _MAX_THREADS)  # a batch divides OpenCV's among its workers
    decoder.options = {"max_pixels": str(_MAX_PIXELS)}
    return decoder


def _decode_packets(
    packets: "Iterator[Packet[Stream]]", decoder: VideoCodecContext, corruption: CorruptionLog
) -> Iterator[VideoFrame]:
    """The frames in the packets; packets that cannot be decoded are skipped."""
    for packet in chain(packets, [None]):
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError as error:
            corruption.record(error_text(error))
            continue
        for frame in frames:
            if frame.is_corrupt:
                corruption.record("a frame is incomplete")
            yield frame


def _seek_packets(
    container: InputContainer, stream: VideoStream, pts: int, corruption: CorruptionLog
) -> "Iterator[Packet[Stream]]":
    """The packets from the last key frame shown no later than `pts`, or all packets.

    Containers index key frames in decoding order, where a key frame can precede frames that are shown before it. If
    the key frame found is too late, everything is decoded from the beginning.
    """
    container.seek(pts, stream=stream)
    packets = read_packets(container, stream, corruption)
    first = next(packets, None)
    if first is not None and first.is_keyframe and first.pts is not None and first.pts <= pts:
        return chain([first], packets)
    container.seek(stream.start_time or 0, stream=stream)
    return read_packets(container, stream, corruption)


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate)
    return DEFAULT_RATE


def _pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel divided by its height; implausible values count as mistakes in the header."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 8) <= aspect <= 8 else Fraction(1)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None
