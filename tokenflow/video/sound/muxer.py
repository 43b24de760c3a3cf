"""The sound of a clip in another file: copied where players take it as it is, else encoded."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Literal

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from tokenflow.events import notice
from tokenflow.video.container import audio_stream, open_input
from tokenflow.video.sound.copying import can_copy, copy_packets
from tokenflow.video.sound.encoding import add_encoder, encode_packets
from tokenflow.video.sound.reading import SoundPart

SoundMode = Literal["auto", "copy", "encode", "none"]
"""How sound gets into a file: `copy`, as it is if the container holds it; `auto`, only if most players play it, too;
`encode`, always encoded; `none`, not at all."""


class AudioMuxer:
    """Writes a clip's sound to an output file in step with the video, so that little is held in memory.

    Args:
        output: the file to write to; it gets an audio stream if the clip has one that can be decoded.
        path: the clip, or a file that holds only sound.
        start: seconds from the first frame of that clip, or from the beginning of that sound; earlier sound is left
            out.
        length: seconds of sound that are needed; None for all that there is.
        mode: how it is written.

    Raises:
        ClipError: the clip cannot be opened.
    """

    def __init__(
        self, output: OutputContainer, path: Path, start: Fraction, length: Fraction | None, mode: SoundMode
    ) -> None:
        self._output = output
        self._packets: Iterator[Packet] = iter(())
        with ExitStack() as stack:
            container = stack.enter_context(open_input(path))
            source = audio_stream(container)
            if source is not None:
                _warn_about_extra_tracks(container, source, path)
                self._packets = _packets(output, SoundPart(path, start, length), container, source, mode)
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


def _warn_about_extra_tracks(container: InputContainer, source: AudioStream, path: Path) -> None:
    tracks = container.streams.audio
    if len(tracks) > 1:
        notice(f"{path} has {len(tracks)} audio tracks; only track {tracks.index(source) + 1} is used")


def _packets(
    output: OutputContainer, part: SoundPart, container: InputContainer, source: AudioStream, mode: SoundMode
) -> Iterator[Packet]:
    """The packets for the output, timed from its first frame; this adds the output's audio stream at once."""
    if mode != "encode" and can_copy(output.format.name, part, source, all_players=mode == "auto"):
        return copy_packets(part, container, source, output.add_stream_from_template(source))
    return encode_packets(part, container, source, add_encoder(output, source))
