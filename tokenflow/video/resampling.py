"""Another frame rate: frames are repeated or left out."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil

from tokenflow.video.decoder import DecodedFrame, Decoder

_TOLERANCE = Fraction(1, 2000)
"""Seconds by which a frame may begin late and still count as shown: containers round times to milliseconds."""

MIN_RATE, MAX_RATE = Fraction(1, 1000), 1000
"""Frames per second."""

_MAX_DENOMINATOR = 100_000

_NTSC = (24, 30, 48, 60, 120)
"""Frames per second that television slows down by 1000/1001: 23.976 stands for 24000/1001."""

_NTSC_TOLERANCE = 0.005


def exact_rate(rate: float | Fraction) -> Fraction:
    """Frames per second as a fraction; a fraction stays as it is."""
    if isinstance(rate, Fraction):
        return rate
    slowed = (Fraction(count * 1000, 1001) for count in _NTSC)
    exact = Fraction(rate).limit_denominator(_MAX_DENOMINATOR)
    return next((each for each in slowed if abs(each - rate) < _NTSC_TOLERANCE), exact)


def resample(decoder: Decoder, rate: Fraction) -> Decoder:
    """The same clip at another rate: at each of its times, the frame that is shown then.

    Args:
        decoder: the clip.
        rate: frames per second, counted from the first frame of the clip.
    """

    def decode(start: Fraction) -> Generator[DecodedFrame]:
        yield from _at_rate(decoder.decode(start), rate)

    return replace(decoder, rate=rate, decode=decode)


def _at_rate(frames: Iterator[DecodedFrame], rate: Fraction) -> Iterator[DecodedFrame]:
    shown: DecodedFrame | None = None
    for following in frames:
        if shown is not None:
            yield from _samples(shown, _first_sample(following.time, rate), rate)
        shown = following
    if shown is not None:  # at the end, to the nearest sample, but at least one in all
        end = max(round((shown.time + shown.duration) * rate), 1)
        yield from _samples(shown, end, rate)


def _samples(shown: DecodedFrame, end: int, rate: Fraction) -> Iterator[DecodedFrame]:
    """A frame once for each sample from its time up to one by its number, exclusive."""
    for index in range(_first_sample(shown.time, rate), end):
        yield DecodedFrame(shown.frame, index / rate, 1 / rate)


def _first_sample(time: Fraction, rate: Fraction) -> int:
    """The number of the first sample at a time or after it."""
    return ceil((time - _TOLERANCE) * rate)
