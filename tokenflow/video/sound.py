"""The sound of one clip into the file of another, as it is where the file can hold it. Knows no pictures."""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from tokenflow.events import notice
from tokenflow.video.container import CorruptionLog, first_time, opened, packets, reason, sound_stream, worth_seeking


class _Encoder(NamedTuple):
    """FFmpeg's name of an encoder, and the samples a second that it takes, the best first."""

    name: str
    rates: tuple[int, ...]


_USUAL_ENCODER = _Encoder("aac", (48_000, 44_100, 96_000, 88_200, 32_000, 24_000, 22_050, 16_000, 8_000))
_ENCODERS = {"webm": _Encoder("libopus", (48_000,))}
"""For containers that do not take the usual one."""

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
"""What every encoder takes, by the number of channels; others are mixed to stereo."""

_PRIMING = Fraction(1, 10)
"""Seconds before the first picture in which a clip's own sound may begin: encoders start with silence."""


class Sound:
    """Takes sound along with the pictures, never further than they have come: little is held in memory.

    Args:
        output: the file to write to; it gets a stream of sound if the clip has any that can be decoded.
        path: the clip whose sound is taken.
        start: seconds from that clip's first picture; sound before it is left out.

    Raises:
        ClipError: the clip cannot be opened.
    """

    def __init__(self, output: OutputContainer, path: Path, start: Fraction) -> None:
        self._output = output
        self._stored: Iterator[Packet] = iter(())
        with ExitStack() as stack:
            container = stack.enter_context(opened(path))
            source = sound_stream(container)
            if source is not None:
                _warn_of_others(container, path)
                self._stored = _taken(output, container, source, path, start)
            self._closing = stack.pop_all()
        self._next: Packet | None = None
        self._begun = False

    def mux_until(self, time: Fraction) -> None:
        """Write what begins to sound before `time`, in seconds from the first picture written."""
        if not self._begun:
            self._begun, self._next = True, next(self._stored, None)
        while self._next is not None and (self._next.pts or 0) * self._next.time_base < time:
            self._output.mux(self._next)
            self._next = next(self._stored, None)

    def close(self) -> None:
        """Close the clip the sound came from."""
        self._closing.close()


def _warn_of_others(container: InputContainer, path: Path) -> None:
    tracks = len(container.streams.audio)
    if tracks > 1:
        notice(f"{path} has {tracks} tracks of sound; only the first goes along")


def _taken(
    output: OutputContainer, container: InputContainer, source: AudioStream, path: Path, start: Fraction
) -> Iterator[Packet]:
    """The sound from `start` on, timed from there; the output gets its stream at once."""
    zero = first_time(container, path) + start
    if worth_seeking(container, start) and source.time_base:
        container.seek(int((zero - 1) / source.time_base), stream=source)
    earliest = zero - (0 if start else _PRIMING)
    if _takes(output, source, path):
        copy = output.add_stream_from_template(source)
        return _copied(container, source, copy, zero, earliest, CorruptionLog(path))
    encoder = _ENCODERS.get(output.format.name, _USUAL_ENCODER)
    rate = source.rate if source.rate in encoder.rates else encoder.rates[0]
    layout = _LAYOUTS.get(source.layout.nb_channels, "stereo")
    stream = output.add_stream(encoder.name, rate=rate, layout=layout)
    if not isinstance(stream, AudioStream):
        raise TypeError(f"expected an encoder of sound; got {encoder.name}")
    return _encoded(container, source, stream, zero, CorruptionLog(path))


def _takes(output: OutputContainer, source: AudioStream, path: Path) -> bool:
    """Whether the container holds this sound as it is: some say only when they are closed, with a packet in them."""
    with opened(path) as again:
        try:
            with av.open(io.BytesIO(), "w", format=output.format.name) as trial:
                copy = trial.add_stream_from_template(source)
                stored = _copied(
                    again, again.streams[source.index], copy, Fraction(0), Fraction(0), CorruptionLog(path)
                )
                trial.mux(list(islice(stored, 1)))
        except (av.FFmpegError, ValueError):
            return False
    return True


def _copied(
    container: InputContainer,
    source: Stream,
    copy: AudioStream,
    zero: Fraction,
    earliest: Fraction,
    damage: CorruptionLog,
) -> Iterator[Packet]:
    """The packets as they are. The one that ends at `earliest` comes along: decoders need one to warm up."""
    for packet in packets(container, source, damage):
        if packet.pts is None or packet.dts is None:
            continue
        if (packet.pts + (packet.duration or 0)) * packet.time_base < earliest:
            continue
        shift = round(zero / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = copy
        yield packet
    damage.warn()


def _encoded(
    container: InputContainer, source: AudioStream, stream: AudioStream, zero: Fraction, damage: CorruptionLog
) -> Iterator[Packet]:
    for packet in chain(packets(container, source, damage), [None]):
        try:
            frames = source.decode(packet)
        except av.FFmpegError as error:
            damage.note(reason(error))
            continue
        for frame in frames:
            base = frame.time_base or source.time_base
            if frame.pts is None or not base or frame.pts * base < zero:
                continue
            frame.pts -= round(zero / base)
            yield from stream.encode(frame)
    yield from stream.encode(None)
    damage.warn()
