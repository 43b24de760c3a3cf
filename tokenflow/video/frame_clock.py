"""Presentation times of a clip's frames, in integer ticks of a time base."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from tokenflow.video.decoder import DEFAULT_RATE

_MIN_TIME_BASE = Fraction(1, 1_000_000)
"""Seconds; containers cannot store shorter ticks."""

_DEFAULT_TIME_BASE = Fraction(1, 90_000)
"""Seconds; used if the ticks that meet all times exactly would be too short."""


class FrameClock:
    """Converts between frame indices, times and time stamps (PTS), in the best time base for the given times.

    The time base meets all times exactly if a container can store it, else all times but the end if a container can
    store that, else each time is rounded to the nearest tick of 1/90000 s.

    Args:
        times: seconds at which each frame is shown, strictly increasing; the first becomes 0. Or
        rate: frames per second, above 0. Exactly one of the two.
        end: seconds, on the same scale as `times`, at which the last frame ends; None to show it as long as the frame
            before it.

    Attributes:
        rate: average frames per second.
        time_base: seconds per tick.
        is_constant: whether all frames are shown equally long.
        count: the number of frames; None if there may be any number.
        last_duration: seconds for which the last frame is shown.

    Raises:
        ValueError: the arguments are not as described.
    """

    def __init__(
        self, times: Sequence[Fraction] | None, rate: Fraction | int | None, end: Fraction | None = None
    ) -> None:
        if (times is None) == (rate is None) or times == [] or (times is None and end is not None):
            raise ValueError("expected either one or more times, with an optional end, or a rate")
        self._times = [Fraction(time) - Fraction(times[0]) for time in times] if times else None
        gaps = [after - before for before, after in pairwise(self._times or ())]
        if times is None or end is None:
            last = gaps[-1] if gaps else 1 / Fraction(rate or DEFAULT_RATE)
        else:
            last = Fraction(end) - Fraction(times[-1])
        if any(gap <= 0 for gap in [*gaps, last]) or (rate is not None and rate <= 0):
            raise ValueError("expected strictly increasing times and an end after the last of them, or a rate above 0")
        if gaps:
            self.rate = (len(gaps) / sum(gaps, Fraction(0))).limit_denominator(100_000)
        else:
            self.rate = Fraction(rate or DEFAULT_RATE)
        self.last_duration = last
        exact = (_common_divisor(durations) for durations in ([*gaps, last], gaps or [last]))
        self.time_base = next((ticks for ticks in exact if ticks >= _MIN_TIME_BASE), _DEFAULT_TIME_BASE)
        self.is_constant = len({*gaps, last}) == 1
        self.count = None if self._times is None else len(self._times)

    def time(self, index: int) -> Fraction:
        """Seconds from the first frame to this one; for the index after the last, when the last frame ends."""
        if self._times is None:
            return index / self.rate
        if index < len(self._times):
            return self._times[index]
        return self._times[-1] + self.last_duration

    def pts(self, index: int) -> int:
        """`time` in ticks."""
        return round(self.time(index) / self.time_base)

    def index(self, pts: int) -> int:
        """The inverse of `pts`: which frame has this time stamp."""
        if self._times is None:
            return round(pts * self.time_base * self.rate)
        return max(0, bisect_left(self._times, (pts - Fraction(1, 2)) * self.time_base))


def _common_divisor(durations: Sequence[Fraction]) -> Fraction:
    """The longest duration of which all the given ones are multiples."""
    denominator = math.lcm(*(duration.denominator for duration in durations))
    return Fraction(math.gcd(*(int(duration * denominator) for duration in durations)), denominator)
