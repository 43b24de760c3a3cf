"""How long videos take and wait, judging by the latest of the same model."""

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tokenflow.apps.server.fairness import Place
from tokenflow.apps.server.tables import COMPLETED, IN_PROGRESS, QUEUED, WORK, Video

LATEST = 20
"""How many videos of a model the estimate of another is taken from."""


def seconds_per_work(session: Session, models: Collection[str]) -> dict[str, float]:
    """Seconds per frame and pixel, by model; without those that have completed none."""
    found = {}
    for model in models:
        done = select(Video.seconds, WORK.label("work")).where(Video.model == model, Video.state == COMPLETED)
        latest = done.order_by(Video.finished_at.desc()).limit(LATEST).subquery()
        seconds, work = session.execute(select(func.sum(latest.c.seconds), func.sum(latest.c.work))).one()
        if seconds and work:
            found[model] = float(seconds) / float(work)
    return found


def pace_of_unfinished(session: Session) -> dict[str, float]:
    """`seconds_per_work` of the models of all videos that wait or run."""
    unfinished = select(Video.model).where(Video.state.in_((QUEUED, IN_PROGRESS))).distinct()
    return seconds_per_work(session, session.scalars(unfinished).all())


def seconds_of_running(session: Session, pace: dict[str, float]) -> list[float | None]:
    """What is left of each video that runs; None where that is unknown.

    One that has not told yet takes as long as others of its model.
    """
    columns = Video.seconds_left, Video.progress, Video.model, WORK
    left: list[float | None] = []
    for told, progress, model, work in session.execute(select(*columns).where(Video.state == IN_PROGRESS)):
        if told is None and model in pace:
            left.append(pace[model] * work * (1 - progress / 100))
        else:
            left.append(told)
    return left


def seconds_until_done(place: Place, running: list[float | None]) -> float | None:
    """How long until a video that waits is completed; None where that is unknown, as while nothing runs.

    While a video waits, no worker is free, so there are as many workers as videos that run. They share what is left of
    these and all that is ahead in the queue.
    """
    known = [each for each in running if each is not None]
    if not known or len(known) < len(running) or place.ahead is None or place.own is None:
        return None
    return round((sum(known) + place.ahead) / len(running) + place.own, 1)
