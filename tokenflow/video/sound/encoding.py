"""Sound encoded in the form that a container holds and players play."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, groupby
from typing import NamedTuple

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from tokenflow.video.container import CorruptionLog
from tokenflow.video.sound.reading import SoundPart, decode_sound, form_of


class _Encoder(NamedTuple):
    """FFmpeg's name of an encoder, and the sample rates in Hz that it supports, the preferred one first."""

    name: str
    rates: tuple[int, ...]


_DEFAULT_ENCODER = _Encoder("aac", (48_000, 44_100, 96_000, 88_200, 32_000, 24_000, 22_050, 16_000, 8_000))
_ENCODERS = {"webm": _Encoder("libopus", (48_000,))}
"""For containers that do not support the default encoder."""

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
"""Channel layouts that every encoder supports, by channel count; others are mixed down to stereo."""


def add_encoder(output: OutputContainer, source: AudioStream) -> AudioStream:
    """Add an audio stream to a file, as close to the source as its encoder allows."""
    encoder = _ENCODERS.get(output.format.name, _DEFAULT_ENCODER)
    rate = source.rate if source.rate in encoder.rates else encoder.rates[0]
    layout = _LAYOUTS.get(source.layout.nb_channels, "stereo")
    stream = output.add_stream(encoder.name, rate=rate, layout=layout)
    if not isinstance(stream, AudioStream):
        raise TypeError(f"expected an audio encoder; got {encoder.name}")
    return stream


def encode_packets(
    part: SoundPart, container: InputContainer, source: AudioStream, stream: AudioStream
) -> Iterator[Packet]:
    """The packets of a part, decoded and encoded, timed from its start."""
    corruption = CorruptionLog(part.path)
    frames = decode_sound(part.packets(container, source, corruption), source, corruption)
    for frame in _resample(_from_zero(frames, part), stream):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _from_zero(frames: Iterator[AudioFrame], part: SoundPart) -> Iterator[AudioFrame]:
    """The frames that begin in the part, timed from its start."""
    for frame in frames:
        if frame.pts is not None and frame.time_base and frame.pts * frame.time_base >= part.zero:
            frame.pts -= round(part.zero / frame.time_base)
            yield frame


def _resample(frames: Iterator[AudioFrame], stream: AudioStream) -> Iterator[AudioFrame]:
    """The frames in the one form that an encoder takes, by a new resampler wherever theirs changes."""
    for _, run in groupby(frames, form_of):
        resampler = AudioResampler(stream.format, stream.layout, stream.rate)
        for frame in chain.from_iterable(resampler.resample(each) for each in chain(run, [None])):
            time_base = Fraction(1, stream.rate)  # of all, since the encoder takes that of the first for the others'
            frame.pts, frame.time_base = round(Fraction(frame.time or 0) / time_base), time_base
            yield frame
