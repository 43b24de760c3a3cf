"""The states of a video and the only ways between them, each one transaction with its credits, event and webhook.

queued ─▶ in_progress ─▶ completed | failed
   │          │  └─▶ queued again, if the pool that ran it has died
   └──────────┴─▶ cancelled
"""

import json
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tokenflow.apps.server.credits import give_back, hold
from tokenflow.apps.server.database import change
from tokenflow.apps.server.fairness import next_video
from tokenflow.apps.server.folders import new_id
from tokenflow.apps.server.tables import (
    CANCELLED,
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    QUEUED,
    UNFINISHED,
    Delivery,
    Event,
    Video,
)

MAX_ATTEMPTS = 8
"""How often a video is started without getting further before it fails: it may be what ends its pool."""

GIVEN_UP = {
    "error_type": "internal_error",
    "error_message": f"its workers ended {MAX_ATTEMPTS} times at the same place",
}


def accept(session: Session, video: Video) -> bool:
    """Put a new video into the queue, and hold its price; False if its key has not enough credits."""
    if not hold(session, video):
        return False
    session.add(video)
    session.flush()
    _note_state(session, video)
    return True


def unfinished(session: Session, owner: str) -> int:
    """How many videos of an owner wait or run."""
    counted = select(func.count()).where(Video.owner == owner, Video.state.in_(UNFINISHED))
    return session.scalar(counted) or 0


def claim(session: Session, pool: str) -> Video | None:
    """Start the video whose turn it is, in a pool; None if none waits, or another pool was faster."""
    video_id = next_video(session)
    if video_id is None or not _change(session, video_id, QUEUED, IN_PROGRESS, **_started(pool)):
        return None
    video = session.get_one(Video, video_id, populate_existing=True)
    _note_state(session, video)
    return video


def report(session: Session, video_id: str, progress: int, stage: str, seconds_left: float | None) -> None:
    """Keep how far a video is. It never goes backwards, though one that is started again begins at an earlier step."""
    video = session.get_one(Video, video_id)
    if video.state != IN_PROGRESS:
        return
    if progress > video.progress:
        video.attempts = 1
    video.progress = max(video.progress, min(progress, 99))
    video.stage, video.seconds_left = stage, seconds_left
    data = {"progress": video.progress, "stage": stage, "seconds_left": seconds_left}
    session.add(Event(video_id=video_id, kind="progress", data=data))


def note(session: Session, video_id: str, kind: str, data: dict[str, Any]) -> None:
    """Add an event."""
    session.add(Event(video_id=video_id, kind=kind, data=data))


def complete(session: Session, video_id: str, pool: str, seconds: float, memory_mb: int | None) -> None:
    """A video is done; its result is kept for some time."""
    _end(session, video_id, COMPLETED, pool, {"progress": 100, "seconds": seconds, "memory_mb": memory_mb})


def fail(session: Session, video_id: str, pool: str, error_type: str, message: str) -> None:
    """A video could not be made; its credits are given back."""
    _end(session, video_id, FAILED, pool, {"error_type": error_type, "error_message": message})


def cancelled(session: Session, video_id: str, pool: str) -> None:
    """A worker has stopped a video; its credits are given back."""
    _end(session, video_id, CANCELLED, pool, {})


def ask_to_cancel(session: Session, video: Video) -> None:
    """Cancel a video that waits; have one that runs stopped; leave one that has ended."""
    now = time.time()
    if _change(session, video.id, QUEUED, CANCELLED, finished_at=now, expires_at=now + Video.keep_seconds):
        _settle(session, video.id)
    else:
        running = update(Video).where(Video.id == video.id, Video.state == IN_PROGRESS)
        session.execute(running.values(cancel_requested=True))
    session.refresh(video)


def to_cancel(session: Session, pool: str) -> Sequence[str]:
    """The running videos of a pool that are to be stopped."""
    asked = select(Video.id).where(Video.pool == pool, Video.state == IN_PROGRESS, Video.cancel_requested)
    return session.scalars(asked).all()


def pools(session: Session) -> Sequence[str]:
    """The pools that videos are running in."""
    running = select(Video.pool).where(Video.state == IN_PROGRESS, Video.pool.is_not(None)).distinct()
    return [pool for pool in session.scalars(running) if pool]


def running_in(session: Session, pool: str) -> Sequence[str]:
    """The videos that run in a pool."""
    return session.scalars(select(Video.id).where(Video.state == IN_PROGRESS, Video.pool == pool)).all()


def put_back(session: Session, video_id: str, pool: str) -> None:
    """Queue a video again whose pool has died; it goes on from what is stored.

    One that was to be stopped is, and one that was started too often without getting further fails.
    """
    stuck = Video.attempts >= MAX_ATTEMPTS, Video.cancel_requested.is_(False)
    of_pool = update(Video).where(Video.id == video_id, Video.state == IN_PROGRESS, Video.pool == pool)
    now = time.time()
    failed = {"finished_at": now, "expires_at": now + Video.keep_seconds, "seconds_left": None, **GIVEN_UP}
    if change(session, of_pool.where(*stuck).values(state=FAILED, **failed)):
        _settle(session, video_id)
    elif change(session, of_pool.values(state=QUEUED, pool=None, seconds_left=None)):
        video = session.get_one(Video, video_id, populate_existing=True)
        if video.cancel_requested and _change(session, video_id, QUEUED, CANCELLED, finished_at=now, expires_at=now):
            _settle(session, video_id)
        else:
            _note_state(session, video)


def _started(pool: str) -> dict[str, Any]:
    return {"pool": pool, "started_at": time.time(), "attempts": Video.attempts + 1}


def _end(session: Session, video_id: str, state: str, pool: str, values: dict[str, Any]) -> None:
    now = time.time()
    values = {"finished_at": now, "expires_at": now + Video.keep_seconds, "seconds_left": None, **values}
    if _change(session, video_id, IN_PROGRESS, state, of_pool=pool, **values):
        _settle(session, video_id)


def _change(session: Session, video_id: str, old: str, new: str, of_pool: str | None = None, **values: Any) -> bool:
    """Change the state, if it is still the old one; so that of two processes only one succeeds."""
    as_it_was = update(Video).where(Video.id == video_id, Video.state == old)
    if of_pool is not None:
        as_it_was = as_it_was.where(Video.pool == of_pool)
    return change(session, as_it_was.values(state=new, **values))


def _settle(session: Session, video_id: str) -> None:
    """What follows from the end of a video: credits, an event, and a webhook."""
    video = session.get_one(Video, video_id, populate_existing=True)
    if video.state != COMPLETED:
        give_back(session, video)
    _note_state(session, video)
    if video.webhook_url and video.key_id:
        now = time.time()
        data = {"id": video.id, "status": video.state}
        body = {"type": f"video.{video.state}", "created_at": int(now), "data": data}
        session.add(
            Delivery(
                id=new_id("evt"),
                video_id=video.id,
                key_id=video.key_id,
                url=video.webhook_url,
                body=json.dumps(body),
                next_at=now,
            )
        )


def _note_state(session: Session, video: Video) -> None:
    data = {"status": video.state, "progress": video.progress, "error": video.error_type}
    session.add(Event(video_id=video.id, kind="state", data=data))
