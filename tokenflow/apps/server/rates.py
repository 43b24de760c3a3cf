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
from sqlalchemy import delete, select

from tokenflow.apps.server.database import Database
from tokenflow.apps.server.tables import Submission

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
    """Counts submissions over a moving window, in the database: for all servers, and their pages, together.

    Args:
        database: where they are counted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def seconds_to_wait(self, rate: str, who: str) -> float:
        """Count a submission; 0 if it is within the rate, else the seconds after which one will be."""
        item = parse_rate(rate)
        window, now = item.get_expiry(), time.time()
        of_owner = Submission.owner == who
        with self._database.write() as session:
            session.execute(delete(Submission).where(of_owner, Submission.at <= now - window))
            times = session.scalars(select(Submission.at).where(of_owner).order_by(Submission.at.desc())).all()
            if len(times) < item.amount:
                session.add(Submission(owner=who, at=now))
                return 0.0
        return max(1.0, times[item.amount - 1] + window - now)
