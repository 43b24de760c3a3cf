"""Streaming the frames of a clip as RGB with their times."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from os import PathLike
from pathlib import Path

from tokenflow.errors import ClipError
from tokenflow.events import notice
from tokenflow.video.clip_file import open_clip
from tokenflow.video.colour import Converter, RGBImage
from tokenflow.video.decoder import DecodedFrame
from tokenflow.video.resampling import MAX_RATE, MIN_RATE
from tokenflow.video.transparency import BLACK, Alpha, Colour, composite, parse_colour

_START_TOLERANCE = Fraction(1, 2000)
"""Seconds by which the first frame may be earlier than the requested start, so that 0.033 means 1/30."""


_LONG_DURATION = 600
"""Seconds; a frame that is shown for longer is perhaps a mistake in the time stamps."""


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
    decoder = open_clip(path, rate)
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
