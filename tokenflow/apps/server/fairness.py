"""Whose video is next: that of the owner with the fewest running, of these the one who has waited longest for a turn.

An owner with a hundred waiting videos so delays another's first by at most those that run.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Double, case, cast, func, null, select
from sqlalchemy.orm import Session

from tokenflow.apps.server.tables import IN_PROGRESS, QUEUED, WORK, Video


def next_video(session: Session) -> str | None:
    """The id of the video to start next; None if none waits."""
    waiting = select(Video.owner, func.min(Video.created_at)).where(Video.state == QUEUED).group_by(Video.owner)
    oldest: dict[str, float] = {row[0]: row[1] for row in session.execute(waiting)}
    if not oldest:
        return None
    owners = list(oldest)
    counts = select(Video.owner, func.count()).where(Video.state == IN_PROGRESS, Video.owner.in_(owners))
    running: dict[str, int] = {row[0]: row[1] for row in session.execute(counts.group_by(Video.owner))}
    starts = select(Video.owner, func.max(Video.started_at)).where(Video.owner.in_(owners)).group_by(Video.owner)
    started: dict[str, float | None] = {row[0]: row[1] for row in session.execute(starts)}
    first = min(owners, key=lambda owner: (running.get(owner, 0), started.get(owner) or 0.0, oldest[owner]))
    of_first = select(Video.id).where(Video.state == QUEUED, Video.owner == first)
    return session.scalar(of_first.order_by(Video.created_at, Video.id).limit(1))


@dataclass(frozen=True)
class Place:
    """Where a video is in the queue, if none were added.

    Attributes:
        number: from 1.
        ahead: seconds that all before it take one after another; None where that of one is unknown.
        own: seconds that it takes; None if unknown.
    """

    number: int
    ahead: float | None
    own: float | None


def places(session: Session, ids: Collection[str], pace: Mapping[str, float]) -> dict[str, Place]:
    """Places in the queue of some videos that wait.

    Args:
        session: to read in.
        ids: of the videos.
        pace: seconds per frame and pixel, by model, where known.
    """
    if not ids:
        return {}
    running = select(Video.owner, func.count().label("count")).where(Video.state == IN_PROGRESS).group_by(Video.owner)
    running_of = running.subquery()
    started_of = select(Video.owner, func.max(Video.started_at).label("at")).group_by(Video.owner).subquery()
    turn = func.row_number().over(partition_by=Video.owner, order_by=(Video.created_at, Video.id))
    known = [(Video.model == model, seconds * WORK) for model, seconds in pace.items()]
    seconds = case(*known, else_=null()) if known else null()
    turns = (
        select(
            Video.id,
            cast(seconds, Double).label("seconds"),
            turn.label("turn"),
            (turn + func.coalesce(running_of.c.count, 0)).label("round"),
            func.coalesce(started_of.c.at, 0.0).label("started"),
            func.min(Video.created_at).over(partition_by=Video.owner).label("oldest"),
        )
        .outerjoin(running_of, running_of.c.owner == Video.owner)
        .outerjoin(started_of, started_of.c.owner == Video.owner)
        .where(Video.state == QUEUED)
        .subquery()
    )
    # In a round, those who have had no turn since now come first: their last start lies longer back.
    order = (turns.c.round, turns.c.turn, turns.c.started, turns.c.oldest, turns.c.id)
    summed = func.sum(turns.c.seconds).over(order_by=order, rows=(None, -1))
    ahead = func.count().over(order_by=order, rows=(None, -1))
    estimated = func.count(turns.c.seconds).over(order_by=order, rows=(None, -1))
    placed = select(
        turns.c.id,
        turns.c.seconds,
        func.row_number().over(order_by=order).label("number"),
        func.coalesce(summed, 0.0).label("ahead"),
        (ahead - estimated).label("unknown"),
    ).subquery()
    found = session.execute(select(placed).where(placed.c.id.in_(list(ids))))
    return {row.id: Place(row.number, None if row.unknown else row.ahead, row.seconds) for row in found}
