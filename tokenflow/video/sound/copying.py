"""Sound in another container as it is."""

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from tokenflow.video.container import CorruptionLog, open_input
from tokenflow.video.sound.reading import SoundPart, decode_sound, form_of

_PLAYED = {
    "mp4": {"aac", "mp3", "flac", "opus"},
    "mov": {"aac", "mp3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le", "pcm_f32be"},
}
"""Codecs that most players play: in MP4, all current browsers; in MOV, QuickTime. Players of Matroska and WebM play all
that these hold."""

_PRIMING = Fraction(1, 10)
"""Seconds by which a clip's audio may begin before its first frame: encoders start with silence (priming)."""


def can_copy(container: str, part: SoundPart, source: AudioStream, *, all_players: bool) -> bool:
    """Whether sound can be put into a container as it is.

    Args:
        container: FFmpeg's name of the format.
        part, source: the sound.
        all_players: whether most players have to play it, too.
    """
    codec = source.codec_context.codec.canonical_name
    if all_players and codec not in _PLAYED.get(container, {codec}):
        return False
    return _is_held(container, part, source) and _keeps_its_form(part, source)


def copy_packets(
    part: SoundPart, container: InputContainer, source: AudioStream, copy: AudioStream
) -> Iterator[Packet]:
    """The packets of a part, timed from its start. The one that ends there is kept: decoders need one to warm up."""
    earliest: Fraction | None = None
    for packet in part.packets(container, source, CorruptionLog(part.path)):
        begin = (packet.pts or 0) * packet.time_base
        if earliest is None:
            earliest = begin if 0 <= part.zero - begin <= _PRIMING and not part.start else part.zero
        if begin + (packet.duration or 0) * packet.time_base < earliest:
            continue
        _set_time(packet, begin - part.zero, Fraction(1, source.rate or av.time_base))
        packet.stream = copy
        yield packet


def _set_time(packet: Packet, time: Fraction, time_base: Fraction) -> None:
    """Time a packet in a time base that is finer than that of containers which count packets instead of samples."""
    packet.duration = round((packet.duration or 0) * packet.time_base / time_base)
    packet.pts = packet.dts = round(time / time_base)
    packet.time_base = time_base


def _is_held(container: str, part: SoundPart, source: AudioStream) -> bool:
    """Whether a container holds this sound.

    A trial file with one packet is written, as some containers report an error only when they are closed.
    """
    with open_input(part.path) as again:
        try:
            with av.open(io.BytesIO(), "w", format=container) as trial:
                copy = trial.add_stream_from_template(source)
                packets = copy_packets(part, again, _same(again, source), copy)
                trial.mux(list(islice(packets, 1)))
        except (av.FFmpegError, ValueError):
            return False
    return True


def _keeps_its_form(part: SoundPart, source: AudioStream) -> bool:
    """Whether layout, rate and format are the same throughout: most containers store them once."""
    with open_input(part.path) as again:
        stream, corruption = _same(again, source), CorruptionLog(part.path, silent=True)
        frames = decode_sound(part.packets(again, stream, corruption), stream, corruption)
        return len({form_of(frame) for frame in frames}) <= 1


def _same(container: InputContainer, source: AudioStream) -> AudioStream:
    """The same stream of the same file, opened again."""
    return next(each for each in container.streams.audio if each.index == source.index)
