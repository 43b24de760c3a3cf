"""Video files by FFmpeg's eyes: opening, seeking, decoding, and going on past damage.

Knows containers, packets and time stamps. Knows nothing of colours or of what part of a clip is wanted. That a
clip is cut off is said where the file shows it: AVI, GIF and warp streams may end between any two pictures.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

import av
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
from tokenflow.video.deinterlace import deinterlaced

_MOST_PIXELS = 2**27
"""Pictures of 16K have fewer; a damaged header may ask for more than there is memory."""

_INDEXED = {"mov", "matroska"}
"""Containers that know where their key frames are, so that they can be entered in the middle."""

_UNTIMED = {"h264", "hevc", "m4v", "mpegvideo", "obu"}
"""Bare streams: they carry no times, so that pictures can only be counted."""

_SILENT_ENDS = {"matroska"}
"""Containers of which FFmpeg does not say that they are cut off."""

_SLACK = Fraction(1, 5)
"""Seconds by which a header may promise too much."""

_WORTH_SEEKING = 2
"""Seconds; an earlier start is reached as fast by decoding."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The file as a container, closed at the end; whatever FFmpeg says against it becomes a `ClipError`.

    Its name is never taken for an address, and a playlist in it never leads to the network.
    """
    try:
        options = {"protocol_whitelist": "file"}
        with av.open(f"file:{path}", "r", container_options=options, metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        raise ClipError(f"{path} cannot be read ({reason(error)}); expected a video file") from error


def open_container(path: Path) -> Decoder:
    """What the file says of itself.

    Raises:
        ClipError: it is no video file, or has no pictures in it.
    """
    with opened(path) as container:
        stream = picture_stream(container, path)
        return Decoder(
            rate=_rate(stream),
            pixel_aspect=_pixel_aspect(stream),
            has_audio=sound_stream(container) is not None,
            codec=stream.codec_context.name,
            profile=stream.codec_context.profile,
            duration=_duration(container, stream),
            shots=partial(_shots, path),
        )


def picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream of moving pictures; the cover of a song is none.

    Raises:
        ClipError: there is none.
    """
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise ClipError(f"{path} has no pictures in it that can be decoded (it holds: {held}); expected a video")


def sound_stream(container: InputContainer) -> av.AudioStream | None:
    """The first stream of sound whose coding is known, or None."""
    known = (stream for stream in container.streams.audio if stream.codec_context is not None)
    return next(known, None)


def first_time(container: InputContainer, path: Path) -> Fraction:
    """When the file's first picture is shown, in seconds on the file's own clock."""
    stream = picture_stream(container, path)
    return (stream.start_time or 0) * (stream.time_base or Fraction(1))


def worth_seeking(container: InputContainer, start: Fraction) -> bool:
    """Whether a start, in seconds, is reached sooner by seeking than by reading, and as surely."""
    return start > _WORTH_SEEKING and bool(_INDEXED & set(container.format.name.split(",")))


class CorruptionLog:
    """What was unreadable in a file, said once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reason: str | None = None
        self._said = False

    def note(self, reason: str) -> None:
        """Remember that something was unreadable."""
        self._reason = reason

    def warn(self) -> None:
        """Warn if anything was unreadable and nothing was said yet."""
        if self._reason and not self._said:
            self._said = True
            notice(f"{self._path} is damaged or cut off ({self._reason}); what can be decoded of it is used")


def packets(container: InputContainer, stream: Stream, damage: CorruptionLog) -> "Iterator[Packet[Stream]]":
    """The stream's packets; an error in reading ends them early."""
    latest = Fraction(0)
    try:
        for packet in container.demux():
            if packet.pts is not None:
                latest = max(latest, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream_index != stream.index or not packet.size:
                continue  # an empty packet would tell the decoder that the clip is over
            if packet.is_corrupt:
                damage.note("a packet is incomplete")
            yield packet
    except av.FFmpegError as error:
        damage.note(reason(error))
    if latest < _promised(container) - _SLACK:
        damage.note(f"it ends after {float(latest):.1f} s")


def _promised(container: InputContainer) -> Fraction:
    """The seconds that a file's header says it lasts, where a cut is shown by nothing else."""
    silent = _SILENT_ENDS & set(container.format.name.split(","))
    return Fraction(container.duration or 0, av.time_base) if silent else Fraction(0)


def reason(error: BaseException) -> str:
    """FFmpeg's own words, without the number and the name that Python puts around them."""
    return str(getattr(error, "strerror", None) or error)


def _shots(path: Path, start: Fraction) -> Generator[DecodedFrame]:
    """All pictures from some time before `start` on, in seconds from the first.

    Raises:
        ClipError: not one picture can be decoded.
    """
    with opened(path) as container:
        stream = picture_stream(container, path)
        damage = CorruptionLog(path)
        decoder = _decoder(stream)
        frames = _decoded(packets(container, stream, damage), decoder, damage)
        first = next(frames, None)
        if first is None:
            raise ClipError(
                f"{path} has no picture in it that can be decoded; it is damaged or empty, or an animation whose name "
                "has not the ending of one, such as .webp"
            )
        clock = _Clock(container, stream, first)
        if worth_seeking(container, start):
            later = _packets_from(container, stream, clock.stamp(start), damage)
            decoder.flush_buffers()
            frames = _decoded(later, decoder, damage)
        else:
            frames = chain([first], frames)
        for shot in deinterlaced(DecodedFrame(frame, clock.time(frame), clock.duration(frame)) for frame in frames):
            damage.warn()
            yield shot
        damage.warn()


class _Clock:
    """When pictures are shown, in seconds from the first one, strictly increasing whatever the file says."""

    def __init__(self, container: InputContainer, stream: VideoStream, first: VideoFrame) -> None:
        self._base = stream.time_base or Fraction(1, av.time_base)
        # AVI has no times either, and FFmpeg's guess is off where pictures are stored in another order
        reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        self._untimed = reordered or container.format.name in _UNTIMED
        self._rate = _rate(stream)
        self._constant = stream.average_rate == stream.base_rate
        self._origin = first.pts or 0
        self._previous: Fraction | None = None
        self._gap = 1 / self._rate

    def time(self, frame: VideoFrame) -> Fraction:
        """When this picture is shown; to be asked once for each, in their order."""
        if self._untimed or frame.pts is None:
            time = Fraction(0) if self._previous is None else self._previous + 1 / self._rate
        else:
            time = self._unrounded((frame.pts - self._origin) * self._base)
        if self._previous is not None:
            time = time if time > self._previous else self._previous + self._base
            self._gap = time - self._previous
        self._previous = time
        return time

    def duration(self, frame: VideoFrame) -> Fraction:
        """How long this picture is shown, whose `time` was asked for just now; if unsaid, as long as the one before."""
        said = frame.duration * self._base
        return self._gap if self._untimed or said <= 0 else self._unrounded(said) or said

    def _unrounded(self, time: Fraction) -> Fraction:
        """What a constant rate says, where the container had to round that to its ticks."""
        exact = round(time * self._rate) / self._rate
        return exact if self._constant and abs(exact - time) <= self._base else time

    def stamp(self, time: Fraction) -> int:
        """The time stamp of a time in seconds."""
        return self._origin + int(time / self._base)


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """The stream's decoder; for VP8 and VP9 with alpha libvpx, since FFmpeg's own leave the alpha out."""
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in ("vp8", "vp9"):
        created = CodecContext.create("libvpx" if decoder.name == "vp8" else "libvpx-vp9", "r")
        if isinstance(created, VideoCodecContext):
            decoder = created
    decoder.thread_type = "AUTO"
    decoder.options = {"max_pixels": str(_MOST_PIXELS)}
    return decoder


def _decoded(
    stored: "Iterator[Packet[Stream]]", decoder: VideoCodecContext, damage: CorruptionLog
) -> Iterator[VideoFrame]:
    """The pictures in the packets; what cannot be decoded is left out."""
    for packet in chain(stored, [None]):
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError as error:
            damage.note(reason(error))
            continue
        for frame in frames:
            if frame.is_corrupt:
                damage.note("a picture is incomplete")
            yield frame


def _packets_from(
    container: InputContainer, stream: VideoStream, stamp: int, damage: CorruptionLog
) -> "Iterator[Packet[Stream]]":
    """The packets from the last key frame on that is shown no later than `stamp`, or all of them.

    Containers look up the order of decoding, in which a key frame may come before pictures shown earlier than
    it. Where the key frame they find is too late, everything is decoded from the beginning.
    """
    container.seek(stamp, stream=stream)
    found = packets(container, stream, damage)
    first = next(found, None)
    if first is not None and first.is_keyframe and first.pts is not None and first.pts <= stamp:
        return chain([first], found)
    container.seek(stream.start_time or 0, stream=stream)
    return packets(container, stream, damage)


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate)
    return DEFAULT_RATE


def _pixel_aspect(stream: VideoStream) -> Fraction:
    """Width over height of a pixel; what no camera has is taken for a mistake in the header."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 8) <= aspect <= 8 else Fraction(1)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None
