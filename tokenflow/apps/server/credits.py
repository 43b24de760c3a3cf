"""Credits: held when a video is accepted, kept when it is completed, given back when it is not; each exactly once.

Every change is an entry, in the same transaction as the change of state that it belongs to, and a video has at most one
entry of each kind. So a process may be killed at any moment, and `balance` always adds up.
"""

import math
import time
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tokenflow.apps.server.database import change
from tokenflow.apps.server.tables import COMPLETED, UNFINISHED, Entry, Key, Video

GRANTED, HELD, RETURNED = "granted", "held", "returned"


@dataclass(frozen=True)
class Balance:
    """The credits of a key: granted = left + held + spent.

    Attributes:
        granted: when it was created.
        left: may be spent.
        held: by videos that are not finished.
        spent: on completed ones.
    """

    granted: int
    left: int
    held: int
    spent: int


def price(credits: float, frames: int, width: int, height: int) -> int:
    """Credits of an edit: whole ones, at least 1 unless it is free."""
    return math.ceil(credits * frames * width * height / 1e6 - 1e-9)


def grant(session: Session, key_id: str, credits: int) -> None:
    """Give a key credits."""
    session.add(Entry(key_id=key_id, kind=GRANTED, credits=credits, at=time.time()))
    changes = {"credits": Key.credits + credits, "granted": Key.granted + credits}
    session.execute(update(Key).where(Key.id == key_id).values(changes))


def hold(session: Session, video: Video) -> bool:
    """Take the price of a video off its key; False if there is not enough left."""
    if video.key_id is None:
        return True
    enough = update(Key).where(Key.id == video.key_id, Key.credits >= video.price)
    if not change(session, enough.values(credits=Key.credits - video.price)):
        return False
    session.add(Entry(key_id=video.key_id, video_id=video.id, kind=HELD, credits=-video.price, at=time.time()))
    return True


def give_back(session: Session, video: Video) -> None:
    """Give the price of a video back to its key. A second time is an error of the database, which undoes all of it."""
    if video.key_id is None:
        return
    session.add(Entry(key_id=video.key_id, video_id=video.id, kind=RETURNED, credits=video.price, at=time.time()))
    session.execute(update(Key).where(Key.id == video.key_id).values(credits=Key.credits + video.price))


def balance(session: Session, key_id: str) -> Balance:
    """The credits of a key, from its entries."""
    sums = select(Entry.kind, func.sum(Entry.credits)).where(Entry.key_id == key_id).group_by(Entry.kind)
    by_kind = {kind: int(total) for kind, total in session.execute(sums)}
    prices = select(func.coalesce(func.sum(Video.price), 0)).where(Video.key_id == key_id)
    held = int(session.scalar(prices.where(Video.state.in_(UNFINISHED))) or 0)
    spent = int(session.scalar(prices.where(Video.state == COMPLETED)) or 0)
    return Balance(by_kind.get(GRANTED, 0), sum(by_kind.values()), held, spent)
