"""The sound of one clip into the file of another, packet by packet. Knows nothing of pictures."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from tokenflow.video.container import opened, start_of


class Sound:
    """Copies sound along with the pictures, never further than they have come: little is held in memory.

    Args:
        output: the file to write to; it gets a stream of sound if the clip has any.
        path: the clip whose sound is taken.
        start: seconds from that clip's first picture; sound before it is left out.
    """

    def __init__(self, output: OutputContainer, path: Path, start: Fraction) -> None:
        self._output = output
        self._closing = ExitStack()
        container = self._closing.enter_context(opened(path))
        self._packets: Iterator[tuple[Fraction, Packet[AudioStream]]] = iter(())
        if container.streams.audio:
            source = container.streams.audio[0]
            copy = output.add_stream_from_template(source)
            self._packets = _copied(container, source, copy, start_of(container, path) + start)
        self._next = next(self._packets, None)

    def mux_until(self, time: Fraction) -> None:
        """Write what sounds before `time`, in seconds from the start."""
        while self._next and self._next[0] < time:
            self._output.mux(self._next[1])
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the clip the sound came from."""
        self._closing.close()


def _copied(
    container: InputContainer, source: AudioStream, copy: AudioStream, start: Fraction
) -> Iterator["tuple[Fraction, Packet[AudioStream]]"]:
    """The packets from `start` on, in seconds of the file's own clock, with their new times."""
    base = source.time_base or Fraction(1, source.rate)
    shift = round(start / base)
    for packet in container.demux(source):
        if packet.pts is None or packet.dts is None or packet.pts < shift:
            continue
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = copy
        yield packet.pts * base, packet
