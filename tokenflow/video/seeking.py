"""Jumping to a time in a video file, where that is exact."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, pairwise

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from tokenflow.video.container import CorruptionLog, read_packets
from tokenflow.video.continuity import max_leap

_SEEKABLE_FORMATS = {"mov", "matroska"}
"""Formats with an index of key frames, in which seeking is reliable."""

_MIN_SEEK_START = 2
"""Seconds; decoding from the beginning reaches earlier starts as fast."""


def should_seek(container: InputContainer, stream: VideoStream, start: Fraction) -> bool:
    """Whether seeking to a start, in seconds, is reliable and faster than reading from the beginning."""
    if start <= _MIN_SEEK_START or not _SEEKABLE_FORMATS & set(container.format.name.split(",")):
        return False
    if container.duration is not None and start * av.time_base > container.duration:  # behind a join
        return False
    stamps = [entry.timestamp for entry in stream.index_entries]
    longest = max((after - before for before, after in pairwise(stamps)), default=0)
    return longest * (stream.time_base or 0) < max_leap(container)


def seek_packets(
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
