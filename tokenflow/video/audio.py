"""Copying the audio of one clip to another file; it is encoded again only where the container cannot hold it."""

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
from tokenflow.video.container import (
    CorruptionLog,
    audio_stream,
    error_text,
    open_input,
    read_packets,
    should_seek,
    video_start_time,
)


class _AudioEncoder(NamedTuple):
    """FFmpeg's name of an encoder, and the sample rates in Hz that it supports, the preferred one first."""

    name: str
    rates: tuple[int, ...]


_DEFAULT_ENCODER = _AudioEncoder("aac", (48_000, 44_100, 96_000, 88_200, 32_000, 24_000, 22_050, 16_000, 8_000))
_ENCODERS = {"webm": _AudioEncoder("libopus", (48_000,))}
"""For containers that do not support the default encoder."""

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
"""Channel layouts that every encoder supports, by channel count; others are mixed down to stereo."""

_PRIMING = Fraction(1, 10)
"""Seconds by which a clip's audio may begin before its first frame: encoders start with silence (priming)."""


class AudioMuxer:
    """Copies a clip's audio to an output file in step with the video, so that little is held in memory.

    Args:
        output: the file to write to; it gets an audio stream if the clip has one that can be decoded.
        path: the clip to copy the audio from.
        start: seconds from the first frame of that clip; earlier audio is left out.

    Raises:
        ClipError: the clip cannot be opened.
    """

    def __init__(self, output: OutputContainer, path: Path, start: Fraction) -> None:
        self._output = output
        self._packets: Iterator[Packet] = iter(())
        with ExitStack() as stack:
            container = stack.enter_context(open_input(path))
            source = audio_stream(container)
            if source is not None:
                _warn_about_extra_tracks(container, path)
                self._packets = _output_packets(output, container, source, path, start)
            self._resources = stack.pop_all()
        self._next: Packet | None = None
        self._started = False

    def mux_until(self, time: Fraction) -> None:
        """Write the audio that begins before `time`, in seconds from the first frame of the output."""
        if not self._started:
            self._started, self._next = True, next(self._packets, None)
        while self._next is not None and (self._next.pts or 0) * self._next.time_base < time:
            self._output.mux(self._next)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the clip that the audio is copied from."""
        self._resources.close()


def _warn_about_extra_tracks(container: InputContainer, path: Path) -> None:
    tracks = len(container.streams.audio)
    if tracks > 1:
        notice(f"{path} has {tracks} audio tracks; only the first is copied")


def _output_packets(
    output: OutputContainer, container: InputContainer, source: AudioStream, path: Path, start: Fraction
) -> Iterator[Packet]:
    """The packets for the output from `start` on, timed from there; this adds the output's audio stream at once."""
    zero = video_start_time(container, path) + start
    if should_seek(container, start) and source.time_base:
        container.seek(int((zero - 1) / source.time_base), stream=source)
    earliest = zero - (0 if start else _PRIMING)
    if _can_copy(output, source, path):
        copy = output.add_stream_from_template(source)
        return _copy_packets(container, source, copy, zero, earliest, CorruptionLog(path))
    encoder = _ENCODERS.get(output.format.name, _DEFAULT_ENCODER)
    rate = source.rate if source.rate in encoder.rates else encoder.rates[0]
    layout = _LAYOUTS.get(source.layout.nb_channels, "stereo")
    stream = output.add_stream(encoder.name, rate=rate, layout=layout)
    if not isinstance(stream, AudioStream):
        raise TypeError(f"expected an audio encoder; got {encoder.name}")
    return _encode_packets(container, source, stream, zero, CorruptionLog(path))


def _can_copy(output: OutputContainer, source: AudioStream, path: Path) -> bool:
    """Whether the output's container can hold this audio as it is.

    A trial file with one packet is written, as some containers report an error only when they are closed.
    """
    with open_input(path) as again:
        try:
            with av.open(io.BytesIO(), "w", format=output.format.name) as trial:
                copy = trial.add_stream_from_template(source)
                packets = _copy_packets(
                    again, again.streams[source.index], copy, Fraction(0), Fraction(0), CorruptionLog(path)
                )
                trial.mux(list(islice(packets, 1)))
        except (av.FFmpegError, ValueError):
            return False
    return True


def _copy_packets(
    container: InputContainer,
    source: Stream,
    copy: AudioStream,
    zero: Fraction,
    earliest: Fraction,
    corruption: CorruptionLog,
) -> Iterator[Packet]:
    """The packets as they are. The one that ends at `earliest` is kept, as decoders need one to warm up."""
    for packet in read_packets(container, source, corruption):
        if packet.pts is None or packet.dts is None:
            continue
        if (packet.pts + (packet.duration or 0)) * packet.time_base < earliest:
            continue
        shift = round(zero / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = copy
        yield packet
    corruption.warn()


def _encode_packets(
    container: InputContainer, source: AudioStream, stream: AudioStream, zero: Fraction, corruption: CorruptionLog
) -> Iterator[Packet]:
    """The packets of the audio decoded and encoded again."""
    for packet in chain(read_packets(container, source, corruption), [None]):
        try:
            frames = source.decode(packet)
        except av.FFmpegError as error:
            corruption.record(error_text(error))
            continue
        for frame in frames:
            time_base = frame.time_base or source.time_base
            if frame.pts is None or not time_base or frame.pts * time_base < zero:
                continue
            frame.pts -= round(zero / time_base)
            yield from stream.encode(frame)
    yield from stream.encode(None)
    corruption.warn()
