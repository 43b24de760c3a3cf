"""Time stamps that go on where those of a file fall back or leap, as where two recordings were joined."""

from fractions import Fraction

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet

_MAX_FALL, _MAX_REORDERING = Fraction(1, 10), Fraction(1)
"""Seconds by which a key frame (or sound) may begin before what was read earlier, and by which other frames may."""

_BROADCAST_LEAP, _MAX_LEAP = Fraction(10), Fraction(3600)
"""Seconds by which time stamps may leap, in formats that allow discontinuities (transport streams) and in all others.

As in ffplay; FFmpeg's own tool has the first, too.
"""

_NEVER = Fraction(-(2**63))
"""Before every time stamp."""


class Continuity:
    """Shifts the time stamps of a file so that what follows a join begins when everything before it has ended.

    Args:
        container: the file; its packets are given to `correct` in the order in which they are read.
    """

    def __init__(self, container: InputContainer) -> None:
        self._max_leap = max_leap(container)
        self._offset = Fraction(0)  # since the last join
        self._offsets: dict[int, Fraction] = {}  # of each stream, which may reach the join later than others
        self._first: dict[int, Fraction] = {}  # time stamp of each stream in seconds
        self._latest: dict[int, Fraction] = {}  # seconds at which the latest frame or sound of each stream begins
        self._end = _NEVER

    def correct(self, packet: Packet) -> None:
        """Shift the time stamps of a packet."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is not None and packet.stream.type in ("audio", "video"):
            self._follow(packet, stamp * packet.time_base)
        if shift := round(self._offsets.get(packet.stream_index, self._offset) / packet.time_base):
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.pts = None if packet.pts is None else packet.pts + shift

    def _follow(self, packet: Packet, stamp: Fraction) -> None:
        """Change the offset of a packet's stream if the packet does not follow the one before it."""
        stream, tolerance = packet.stream_index, _MAX_FALL if packet.is_keyframe else _MAX_REORDERING
        latest, own = self._latest.get(stream), self._offsets.get(stream, self._offset)
        due = self._end if latest is None else latest
        known = {self._offset, own}
        first = self._first.setdefault(stream, stamp)
        if packet.is_keyframe and latest is not None and stamp <= first < latest - own:  # a short part starts again
            known.remove(own)
        following = [offset for offset in known if self._follows(latest, stamp + offset, tolerance)]
        if not following:
            self._offset = self._end - stamp
            following = [self._offset]
        offset = self._offsets[stream] = min(following, key=lambda each: abs(stamp + each - due))
        time = stamp + offset
        self._latest[stream] = time if latest is None else max(time, latest)
        self._end = max(self._end, time + (packet.duration or 0) * packet.time_base)

    def _follows(self, latest: Fraction | None, time: Fraction, tolerance: Fraction) -> bool:
        return latest is None or (latest - tolerance <= time < self._end + self._max_leap)


def max_leap(container: InputContainer) -> Fraction:
    """Seconds by which the time stamps of a file may leap; more is a mistake, not a pause."""
    return _BROADCAST_LEAP if Flags.ts_discont in Flags(container.format.flags) else _MAX_LEAP
