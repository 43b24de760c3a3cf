"""Decoding video files with PyAV, tolerant of corrupt input."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path

import av
import cv2
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tokenflow.errors import ClipError
from tokenflow.events import notice
from tokenflow.video.container import (
    CorruptionLog,
    audio_stream,
    error_text,
    open_input,
    read_packets,
    video_stream,
    video_streams,
)
from tokenflow.video.decoder import DecodedFrame, Decoder
from tokenflow.video.deinterlace import deinterlace
from tokenflow.video.presentation import PresentationClock, frame_rate
from tokenflow.video.seeking import seek_packets, should_seek

_MAX_PIXELS = 2**27
"""More than a 16K frame has; damaged headers can ask for more than there is memory."""

_MAX_THREADS = 16
"""Of a decoder, as in FFmpeg's own default: each keeps frames in memory."""


def open_video(path: Path) -> Decoder:
    """A decoder for a video file.

    Raises:
        ClipError: it is not a video file, or has no video stream.
    """
    with open_input(path) as container:
        stream = video_stream(container, path)
        return Decoder(
            rate=frame_rate(stream),
            pixel_aspect=_pixel_aspect(stream),
            has_audio=audio_stream(container) is not None,
            codec=stream.codec_context.name,
            profile=stream.codec_context.profile,
            duration=_duration(container, stream),
            decode=partial(_decode, path),
        )


def first_frame_time(path: Path) -> Fraction:
    """When the first frame is shown, in seconds, by the time stamps of the file.

    A stream may begin with packets that cannot be decoded, so this is not always where it starts.

    Raises:
        ClipError: no frame can be decoded.
    """
    with open_input(path) as container:
        stream = video_stream(container, path)
        decoder, packets = _create_decoder(stream), read_packets(container, stream, CorruptionLog(path))
        first = _first_frame(_decode_packets(packets, decoder, CorruptionLog(path)), path)
        return PresentationClock(container, stream, first).origin


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
        first = _first_frame(frames, path)
        clock = PresentationClock(container, stream, first)
        if should_seek(container, stream, start):
            packets = seek_packets(container, stream, clock.pts(start), corruption)
            decoder.flush_buffers()
            frames = _decode_packets(packets, decoder, corruption)
        else:
            frames = chain([first], frames)
        timed = (DecodedFrame(frame, clock.time(frame), clock.duration(frame)) for frame in frames)
        decoded = deinterlace(timed)
        yield from islice(decoded, 1)
        _warn_about_other_streams(container, stream, path)  # of a clip that is read, not only looked at
        for each in decoded:
            corruption.warn()
            yield each
        corruption.warn()


def _warn_about_other_streams(container: InputContainer, stream: VideoStream, path: Path) -> None:
    streams = [each for each in video_streams(container) if each.frames != 1]
    if len(streams) > 1:
        notice(f"{path} has {len(streams)} video streams; only stream {streams.index(stream) + 1} is used")


def _first_frame(frames: Iterator[VideoFrame], path: Path) -> VideoFrame:
    first = next(frames, None)
    if first is None:
        raise ClipError(
            f"{path} contains no frames that can be decoded; it is damaged or empty, or an animated image with the "
            "wrong extension (such as .mp4 for a .webp)"
        )
    return first


def _create_decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream; for VP8 and VP9 with alpha that is libvpx, as FFmpeg's own decoders drop the alpha."""
    decoder = stream.codec_context
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    if tags.get("alpha_mode") == "1" and decoder.name in ("vp8", "vp9"):
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


def _pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel divided by its height; implausible values count as mistakes in the header."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 8) <= aspect <= 8 else Fraction(1)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None
