"""Reading clips: probe a clip, list its files, and stream its frames as RGB with their times."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from os import PathLike
from pathlib import Path

from tokenflow.errors import ClipError, ClipNotFoundError, TokenflowError, looked_in
from tokenflow.events import notice
from tokenflow.video.colour import Converter, RGBImage
from tokenflow.video.decoder import DecodedFrame, Decoder
from tokenflow.video.decoding import open_video
from tokenflow.video.images import IMAGE_SUFFIXES, find_images, open_animation, open_sequence

_START_TOLERANCE = Fraction(1, 2000)
"""Seconds by which the first frame may be earlier than the requested start, so that 0.033 means 1/30."""


_LONG_DURATION = 600
"""Seconds; a frame that is shown for longer is perhaps a mistake in the time stamps."""


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip.

    Attributes:
        path: the clip.
        width, height: size in pixels as displayed: upright, with square pixels.
        rate: average frames per second.
        has_audio: whether the clip has audio.
        codec: name of the codec, such as `h264`.
        profile: profile of the codec, such as `High`; None if the file does not specify it.
        duration: seconds; None if the file does not specify it.
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
    """A frame of the requested part of a clip.

    Attributes:
        image: (H W 3), uint8, RGB, sRGB/BT.709, full range, upright, square pixels.
        time: seconds from the first frame of the part.
        source_time: seconds from the first frame of the clip.
        duration: seconds until the next of the requested frames, even if that lies beyond the end of the part; if there
            is none, until the end of the clip.
    """

    image: RGBImage
    time: Fraction
    source_time: Fraction
    duration: Fraction


def probe(path: str | PathLike[str]) -> ClipInfo:
    """Inspect a clip; this decodes its first frame.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: the clip cannot be read or contains no frames.
    """
    path = Path(path)
    decoder = _open(path)
    with closing(decoder.decode(Fraction(0))) as frames:
        first = next(frames, None)
    if first is None:
        raise ClipError(f"{path} contains no frames; expected a video or an image")
    width, height = Converter(first.frame, decoder.pixel_aspect).size
    return ClipInfo(
        path=path,
        width=width,
        height=height,
        rate=decoder.rate,
        has_audio=decoder.has_audio,
        codec=decoder.codec,
        profile=decoder.profile,
        duration=decoder.duration,
    )


def has_audio(path: str | PathLike[str]) -> bool:
    """Whether a clip has sound; no frame is decoded.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: what is there cannot be read.
    """
    return _open(Path(path)).has_audio


def clip_files(path: str | PathLike[str]) -> list[Path]:
    """The files of a clip, in order: the file itself, or the images of a sequence; empty if there is no clip.

    Raises:
        ClipError: `path` cannot be accessed.
    """
    path = Path(path)
    with _access_errors(path):
        return [path] if path.is_file() else find_images(path)


def read_frames(
    path: str | PathLike[str], *, start: float = 0.0, frames: int | None = None, every: int = 1
) -> Iterator[Frame]:
    """Stream the frames of a clip, or of a part of it, in constant memory.

    Args:
        path: a video file, an animation, an image, a folder of images, or a pattern of image names.
        start: seconds from the first frame of the clip; the part begins with the first frame not before this.
        frames: number of frames to yield at most; None for all.
        every: yield only every n-th frame.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: the clip cannot be read, contains no frames, or ends before `start`.
        ValueError: `start` is negative or not finite, or `frames` or `every` is below 1.
    """
    if not (math.isfinite(start) and start >= 0) or every < 1 or (frames is not None and frames < 1):
        raise ValueError(
            f"expected start >= 0, frames >= 1, every >= 1; got start={start}, frames={frames}, every={every}"
        )
    return _read(Path(path), Fraction(start), frames, every)


def _read(path: Path, start: Fraction, count: int | None, every: int) -> Iterator[Frame]:
    decoder = _open(path)
    with closing(decoder.decode(start)) as decoded:
        part = (frame for frame in decoded if frame.time >= start - _START_TOLERANCE)
        selected = islice(_select_with_end_times(part, every), count)
        first = next(selected, None)
        if first is None:
            raise ClipError(f"{path} ends before {float(start):g} s; choose an earlier start")
        convert, begin = Converter(first[0].frame, decoder.pixel_aspect), first[0].time
        for frame, end in chain([first], selected):
            _warn_about_long(path, frame.time, end)
            yield Frame(convert(frame.frame), frame.time - begin, frame.time, end - frame.time)


def _warn_about_long(path: Path, begin: Fraction, end: Fraction) -> None:
    if end - begin > _LONG_DURATION:
        notice(
            f"{path} shows one frame for {float(end - begin):.0f} s, at {float(begin):.2f} s; if that is a "
            "mistake, choose a part before or after it with clip.start and clip.frames"
        )


def _select_with_end_times(frames: Iterator[DecodedFrame], every: int) -> Iterator[tuple[DecodedFrame, Fraction]]:
    """Every n-th frame with the time at which it ends: when the next of them begins, or when the clip ends."""
    selected, end = None, Fraction(0)
    for index, frame in enumerate(frames):
        if index % every == 0:
            if selected is not None:
                yield selected, frame.time
            selected = frame
        end = frame.time + frame.duration
    if selected is not None:
        yield selected, end


def _open(path: Path) -> Decoder:
    with _access_errors(path):
        if path.is_file():
            return open_animation(path) if path.suffix.lower() in IMAGE_SUFFIXES else open_video(path)
        files = find_images(path)
        if files:
            return open_sequence(files)
        if path.is_dir():
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ClipError(f"{path} is a folder without images; expected a video or images ({suffixes})")
        if path.exists():
            raise ClipError(f"{path} is a pipe or a device; expected a regular file (it is read more than once)")
        raise ClipNotFoundError(f"there is no clip at {path}{looked_in(path)}; check the path")


@contextmanager
def _access_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to look up a path into a `ClipError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TokenflowError):
            raise
        raise ClipError(f"cannot access {path} ({error.strerror}); check the path and its permissions") from error
