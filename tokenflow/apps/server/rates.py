"""Rates of submissions: how they are written, and who has used up theirs."""

import re
import time

from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerHour,
    RateLimitItemPerMinute,
    RateLimitItemPerSecond,
)
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

UNITS: dict[str, type[RateLimitItem]] = {
    "s": RateLimitItemPerSecond,
    "second": RateLimitItemPerSecond,
    "min": RateLimitItemPerMinute,
    "minute": RateLimitItemPerMinute,
    "h": RateLimitItemPerHour,
    "hour": RateLimitItemPerHour,
    "day": RateLimitItemPerDay,
}


def parse_rate(text: str) -> RateLimitItem:
    """A rate such as `10/min`.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"([1-9]\d{0,8})/([a-z]+)", text)
    if match is None or match[2] not in UNITS:
        raise ValueError(f"expected a rate such as 10/min (units: {', '.join(UNITS)}), got {text!r}")
    return UNITS[match[2]](int(match[1]))


class Rates:
    """Counts submissions in this process over a moving window. A restart forgets them; credits do not pass here."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def seconds_to_wait(self, rate: str, who: str) -> float:
        """Count a submission; 0 if it is within the rate, else the seconds after which one will be."""
        item = parse_rate(rate)
        if self._limiter.hit(item, who):
            return 0.0
        return max(1.0, self._limiter.get_window_stats(item, who).reset_time - time.time())
