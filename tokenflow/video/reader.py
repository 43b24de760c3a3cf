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
from tokenflow.video.colour import Converter, RGBImage, has_alpha
from tokenflow.video.container import audio_stream, open_input
from tokenflow.video.decoder import DEFAULT_RATE, DecodedFrame, Decoder
from tokenflow.video.decoding import open_video
from tokenflow.video.images.animation import open_animation
from tokenflow.video.images.files import IMAGE_SUFFIXES, find_images
from tokenflow.video.images.sequence import open_sequence
from tokenflow.video.resampling import exact_rate, resample
from tokenflow.video.transparency import BLACK, Alpha, Colour, composite, parse_colour

MIN_RATE, MAX_RATE = Fraction(1, 1000), 1000
"""Frames per second."""

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
        has_alpha: whether pixels may be transparent.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    has_audio: bool
    codec: str
    profile: str | None
    duration: Fraction | None
    has_alpha: bool = False


@dataclass(frozen=True)
class Frame:
    """A frame of the requested part of a clip.

    Attributes:
        image: (H W 3), uint8, RGB, sRGB/BT.709, full range, upright, square pixels, over the background.
        time: seconds from the first frame of the part.
        source_time: seconds from the first frame of the clip.
        duration: seconds until the next of the requested frames, even if that lies beyond the end of the part; if there
            is none, until the end of the clip.
        alpha: (H W), uint8, opacity; None where no pixel can be transparent.
    """

    image: RGBImage
    time: Fraction
    source_time: Fraction
    duration: Fraction
    alpha: Alpha | None = None


def probe(path: str | PathLike[str], *, rate: float | None = None) -> ClipInfo:
    """Inspect a clip; this decodes its first frame.

    Args:
        path: the clip.
        rate: frames per second to read it at, as in `read_frames`.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: the clip cannot be read or contains no frames.
    """
    path = Path(path)
    decoder = _open(path, rate)
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
        has_alpha=has_alpha(first.frame),
    )


def has_sound(path: str | PathLike[str]) -> bool:
    """Whether a clip or a file of sound has sound; no frame is decoded.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: what is there cannot be read.
    """
    path = Path(path)
    with _access_errors(path):
        if path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES:
            with open_input(path) as container:
                return audio_stream(container) is not None
    return _open(path, None).has_audio


def check_sound(path: str | PathLike[str]) -> None:
    """Make sure that a file has sound.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: it cannot be read or has no sound.
    """
    if not has_sound(path):
        raise ClipError(f"{path} has no sound; expected a file of sound, or a clip with some")


def clip_files(path: str | PathLike[str]) -> list[Path]:
    """The files of a clip, in order: the file itself, or the images of a sequence; empty if there is no clip.

    Raises:
        ClipError: `path` cannot be accessed.
    """
    path = Path(path)
    with _access_errors(path):
        return [path] if path.is_file() else find_images(path)


def read_frames(
    path: str | PathLike[str],
    *,
    start: float = 0.0,
    frames: int | None = None,
    every: int = 1,
    rate: float | None = None,
    background: str | None = None,
) -> Iterator[Frame]:
    """Stream the frames of a clip, or of a part of it, in constant memory.

    Args:
        path: a video file, an animation, an image, a folder of images, or a pattern of image names.
        start: seconds from the first frame of the clip; the part begins with the first frame not before this.
        frames: number of frames to yield at most; None for all.
        every: yield only every n-th frame.
        rate: frames per second: that of a sequence of images; of any other clip, at each of its times the frame that is
            shown then. None for the clip's own, or 25 for a sequence.
        background: what is seen through transparent pixels: a colour such as `white` or `#ff8000`. None for black, with
            a warning.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: the clip cannot be read, contains no frames, or ends before `start`.
        ValueError: `start` is negative or not finite, `frames` or `every` is below 1, `rate` is not from 0.001 to 1000,
            or `background` is not a colour.
    """
    if not (math.isfinite(start) and start >= 0) or every < 1 or (frames is not None and frames < 1):
        raise ValueError(
            f"expected start >= 0, frames >= 1, every >= 1; got start={start}, frames={frames}, every={every}"
        )
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"expected a rate from {float(MIN_RATE):g} to {MAX_RATE} frames per second; got {rate}")
    colour = None if background is None else parse_colour(background)
    return _read(Path(path), Fraction(start), frames, every, rate, colour)


def _read(
    path: Path, start: Fraction, count: int | None, every: int, rate: float | None, background: Colour | None
) -> Iterator[Frame]:
    decoder = _open(path, rate)
    with closing(decoder.decode(start)) as decoded:
        part = (frame for frame in decoded if frame.time >= start - _START_TOLERANCE)
        selected = islice(_select_with_end_times(part, every), count)
        first = next(selected, None)
        if first is None:
            raise ClipError(f"{path} ends before {float(start):g} s; choose an earlier start")
        convert, begin = Converter(first[0].frame, decoder.pixel_aspect), first[0].time
        for frame, end in chain([first], selected):
            _warn_about_long(path, frame.time, end)
            image, alpha = convert(frame.frame)
            if alpha is not None:
                background = background or _assume_black(path, alpha)
                image = composite(image, alpha, background or BLACK)
            yield Frame(image, frame.time - begin, frame.time, end - frame.time, alpha)


def _assume_black(path: Path, alpha: Alpha) -> Colour | None:
    """Black, with a notice, if something is transparent."""
    if alpha.min() == 255:
        return None
    notice(f"{path} has transparent pixels, which are shown over black; set clip.background to the colour behind them")
    return BLACK


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


def _open(path: Path, rate: float | None) -> Decoder:
    exact = None if rate is None else exact_rate(rate)
    with _access_errors(path):
        if path.is_file():
            decoder = open_animation(path) if path.suffix.lower() in IMAGE_SUFFIXES else open_video(path)
            return decoder if exact is None else resample(decoder, exact)
        files = find_images(path)
        if files:
            return open_sequence(files, exact or DEFAULT_RATE)
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
