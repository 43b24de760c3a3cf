"""A clip as frames: what a caller asks for, in RGB, with the time of each. Knows no codec and no model."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from os import PathLike
from pathlib import Path

from tokenflow.errors import ClipError, ClipNotFoundError, TokenflowError
from tokenflow.video.colour import Converter, Picture
from tokenflow.video.container import open_container
from tokenflow.video.decoder import DecodedFrame, Decoder
from tokenflow.video.images import SUFFIXES, matching, open_animation, open_sequence

_TOLERANCE = Fraction(1, 2000)
"""Seconds by which a picture may be earlier than the start asked for: 0.033 means 1/30."""


@dataclass(frozen=True)
class ClipInfo:
    """What a clip is.

    Attributes:
        path: where it was found.
        width, height: pixels of a frame as it is shown: upright, of square pixels.
        rate: frames a second, on average.
        has_audio: whether it has sound.
        codec: the name of its coding, such as `h264`.
        profile: which part of the coding decoders have to know, such as `High`; None where none is said.
        duration: seconds, or None where the file does not say.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    has_audio: bool
    codec: str
    profile: str | None
    duration: Fraction | None


@dataclass(frozen=True)
class Frame:
    """A frame of the part that was asked for.

    Attributes:
        picture: (H W 3), uint8, RGB, sRGB/BT.709, full range, upright, of square pixels.
        time: seconds from the part's first frame.
        source_time: seconds from the clip's first frame.
        duration: seconds until the next frame of the part, be that past the part's end; of the clip's last ones, until
            the clip ends.
    """

    picture: Picture
    time: Fraction
    source_time: Fraction
    duration: Fraction


def probe(path: str | PathLike[str]) -> ClipInfo:
    """Look at a clip; one frame of it is decoded.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: what is there cannot be read, or has no picture in it.
    """
    place = Path(path)
    source = _open(place)
    with closing(source.shots(Fraction(0))) as shots:
        first = _first(shots, place)
    width, height = Converter(first.frame, source.pixel_aspect).size
    return ClipInfo(
        path=place,
        width=width,
        height=height,
        rate=source.rate,
        has_audio=source.has_audio,
        codec=source.codec,
        profile=source.profile,
        duration=source.duration,
    )


def clip_files(path: str | PathLike[str]) -> list[Path]:
    """The files that a clip consists of, in order: itself, or the pictures of a sequence; none if there is no clip.

    Raises:
        ClipError: nobody can say what is at `path`.
    """
    place = Path(path)
    with _looked_for(place):
        return [place] if place.is_file() else matching(place)


def read_frames(
    path: str | PathLike[str], *, start: float = 0.0, frames: int | None = None, every: int = 1
) -> Iterator[Frame]:
    """The frames of a clip or of a part of it, one at a time, in constant memory.

    Args:
        path: a video file, an animation, a picture, a folder of pictures, or a pattern of their names.
        start: seconds from the clip's first frame; the part begins with the first frame that is not earlier.
        frames: how many to give at most; None for all.
        every: give each n-th frame only.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: what is there cannot be read, has no picture in it, or ends before `start`.
        ValueError: `start` is negative or not finite, or `frames` or `every` is below 1.
    """
    if not (math.isfinite(start) and start >= 0) or every < 1 or (frames is not None and frames < 1):
        raise ValueError(
            f"expected start >= 0, frames >= 1, every >= 1; got start={start}, frames={frames}, every={every}"
        )
    return _read(Path(path), Fraction(start), frames, every)


def _read(path: Path, start: Fraction, frames: int | None, every: int) -> Iterator[Frame]:
    source = _open(path)
    with closing(source.shots(start)) as shots:
        part = (shot for shot in shots if shot.time >= start - _TOLERANCE)
        wanted = islice(_with_ends(part, every), frames)
        first = next(wanted, None)
        if first is None:
            raise ClipError(f"{path} ends before {float(start):g} s; choose an earlier start")
        convert, begin = Converter(first[0].frame, source.pixel_aspect), first[0].time
        for shot, end in chain([first], wanted):
            yield Frame(convert(shot.frame), shot.time - begin, shot.time, end - shot.time)


def _with_ends(shots: Iterator[DecodedFrame], every: int) -> Iterator[tuple[DecodedFrame, Fraction]]:
    """Each n-th shot, and when it goes: as the next of them comes, or as the clip ends."""
    shown, end = None, Fraction(0)
    for count, shot in enumerate(shots):
        if count % every == 0:
            if shown is not None:
                yield shown, shot.time
            shown = shot
        end = shot.time + shot.duration
    if shown is not None:
        yield shown, end


def _open(path: Path) -> Decoder:
    with _looked_for(path):
        if path.is_file():
            return open_animation(path) if path.suffix.lower() in SUFFIXES else open_container(path)
        files = matching(path)
        if files:
            return open_sequence(files)
        if path.is_dir():
            raise ClipError(f"{path} is a folder without pictures; expected a video or {', '.join(sorted(SUFFIXES))}")
        if path.exists():
            raise ClipError(f"{path} is a pipe or a device; expected a file, which can be read more than once")
        raise ClipNotFoundError(f"there is no clip at {path}; check the path")


@contextmanager
def _looked_for(path: Path) -> Iterator[None]:
    """Say so where the system does not even tell what is there."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TokenflowError):
            raise
        raise ClipError(
            f"{path} cannot be looked for ({error.strerror}); check the path, and who may read it"
        ) from error


def _first(shots: Iterator[DecodedFrame], path: Path) -> DecodedFrame:
    first = next(shots, None)
    if first is None:
        raise ClipError(f"{path} has no picture in it")
    return first
