"""When each picture of a file is shown, in whole ticks. Knows numbers only."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from tokenflow.video.decoder import DEFAULT_RATE

_SHORTEST_TICK = Fraction(1, 1_000_000)
_USUAL_TICK = Fraction(1, 90_000)
"""Seconds; taken where the exact tick would be shorter than containers hold."""


class FrameClock:
    """Times in ticks that meet all of them exactly wherever a container can hold such ticks, or else all but the end.

    Args:
        times: seconds, strictly increasing; the first is taken for zero. Or
        rate: pictures a second, above 0. Exactly one of the two.
        end: seconds, on the clock of the times, at which the last picture goes; None to show it as long as the one
            before it.

    Attributes:
        rate: pictures a second, on average.
        tick: seconds.
        steady: whether all pictures are shown equally long.
        count: how many pictures there are to be, or None where any number will do.

    Raises:
        ValueError: the arguments are not as described.
    """

    def __init__(
        self, times: Sequence[Fraction] | None, rate: Fraction | int | None, end: Fraction | None = None
    ) -> None:
        if (times is None) == (rate is None) or times == [] or (times is None and end is not None):
            raise ValueError("expected either times, one or more, with or without their end, or a rate")
        self._times = [Fraction(time) - Fraction(times[0]) for time in times] if times else None
        gaps = [after - before for before, after in pairwise(self._times or ())]
        if times is None or end is None:
            last = gaps[-1] if gaps else 1 / Fraction(rate or DEFAULT_RATE)
        else:
            last = Fraction(end) - Fraction(times[-1])
        if any(gap <= 0 for gap in [*gaps, last]) or (rate is not None and rate <= 0):
            raise ValueError("expected times that increase from picture to picture and to the end, or a rate above 0")
        if gaps:
            self.rate = (len(gaps) / sum(gaps, Fraction(0))).limit_denominator(100_000)
        else:
            self.rate = Fraction(rate or DEFAULT_RATE)
        self._last = last
        ticks = (_common_measure(each) for each in ([*gaps, last], gaps or [last]))
        self.tick = next((tick for tick in ticks if tick >= _SHORTEST_TICK), _USUAL_TICK)
        self.steady = len({*gaps, last}) == 1
        self.count = None if self._times is None else len(self._times)

    def time(self, index: int) -> Fraction:
        """Seconds from the first picture to this one; one past the last is when that goes."""
        if self._times is None:
            return index / self.rate
        if index < len(self._times):
            return self._times[index]
        return self._times[-1] + self._last

    def stamp(self, index: int) -> int:
        """The same in ticks."""
        return round(self.time(index) / self.tick)

    def index(self, stamp: int) -> int:
        """The inverse: which picture is shown at these ticks."""
        if self._times is None:
            return round(stamp * self.tick * self.rate)
        return max(0, bisect_left(self._times, (stamp - Fraction(1, 2)) * self.tick))


def _common_measure(gaps: Sequence[Fraction]) -> Fraction:
    """The longest time of which all gaps are multiples."""
    denominator = math.lcm(*(gap.denominator for gap in gaps))
    return Fraction(math.gcd(*(int(gap * denominator) for gap in gaps)), denominator)
