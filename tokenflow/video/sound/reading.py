"""Reading the sound that belongs to a part of a clip."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from tokenflow.video.container import (
    CorruptionLog,
    audio_stream,
    error_text,
    find_video_stream,
    open_input,
    read_packets,
)
from tokenflow.video.decoding import first_frame_time
from tokenflow.video.seeking import should_seek

_WARM_UP = 1
"""Seconds of sound that are read before a start."""


@dataclass(frozen=True)
class SoundPart:
    """The sound of a part of a file.

    Attributes:
        path: a clip, or a file that holds only sound.
        start: seconds from the clip's first frame, or from the beginning of the sound.
        length: seconds; None for all up to the end.
    """

    path: Path
    start: Fraction
    length: Fraction | None

    @cached_property
    def zero(self) -> Fraction:
        """When the part starts, in seconds, by the time stamps of the file."""
        with open_input(self.path) as container:
            if find_video_stream(container) is not None:
                return first_frame_time(self.path) + self.start
            source = audio_stream(container)
            begin = 0 if source is None else (source.start_time or 0) * (source.time_base or 0)
            return begin + self.start

    def packets(self, container: InputContainer, source: AudioStream, corruption: CorruptionLog) -> Iterator[Packet]:
        """The packets from shortly before the part to its end.

        Those that begin before the middle of the one before them are left out: they overlap at a join.
        """
        video = find_video_stream(container)
        if video is not None and should_seek(container, video, self.start) and source.time_base:
            container.seek(int((self.zero - _WARM_UP) / source.time_base), stream=source)
        earliest: Fraction | None = None
        for packet in read_packets(container, source, corruption):
            if packet.pts is None or packet.dts is None:
                continue
            begin = packet.pts * packet.time_base
            if self.length is not None and begin >= self.zero + self.length:
                break
            if earliest is None or begin >= earliest:
                earliest = begin + max(packet.time_base, (packet.duration or 0) * packet.time_base / 2)
                yield packet
        corruption.warn()


def decode_sound(packets: Iterator[Packet], source: AudioStream, corruption: CorruptionLog) -> Iterator[AudioFrame]:
    """The sound in the packets; packets that cannot be decoded are skipped."""
    for packet in chain(packets, [None]):
        try:
            yield from source.decode(packet)
        except av.FFmpegError as error:
            corruption.record(error_text(error))
    corruption.warn()


def form_of(frame: AudioFrame) -> tuple[str, str, int]:
    """Sample format, channel layout and sample rate in Hz."""
    return frame.format.name, frame.layout.name, frame.sample_rate
