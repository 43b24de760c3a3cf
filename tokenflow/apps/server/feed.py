"""Streams of events: one task looks for new events of all videos, and wakes those who wait for them."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from sqlalchemy import func, select
from sse_starlette import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from tokenflow.apps.server.database import Database
from tokenflow.apps.server.tables import UNFINISHED, Event, Video

INTERVAL = 0.25
"""Seconds between two looks at the database."""

RECHECK = 5.0
"""Seconds after which a stream looks for itself: a video that is deleted has no event that says so."""


class Feed:
    """Wakes streams when their video has a new event.

    Args:
        database: with the events.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._last = 0

    async def run(self) -> None:
        """Look for events, until cancelled."""
        self._last = await run_in_threadpool(self._newest)
        while True:
            await asyncio.sleep(INTERVAL)
            if not self._waiting:
                continue
            for video_id in await run_in_threadpool(self._changed):
                for waiting in self._waiting.get(video_id, ()):
                    waiting.set()

    def is_over(self, video_id: str, last: int) -> bool:
        """Whether nothing comes after an event: the video has ended, or is gone, and has no later one."""
        events, ended = self._look(video_id, last)
        return ended and not events

    async def stream(self, video_id: str, last: int) -> AsyncIterator[ServerSentEvent]:
        """The events of a video after the last one that the client has, until the video has ended."""
        woken = asyncio.Event()
        self._waiting[video_id].add(woken)
        try:
            while True:
                woken.clear()
                events, ended = await run_in_threadpool(self._look, video_id, last)
                for event in events:
                    last = event.id
                    yield ServerSentEvent(json.dumps(event.data), event=event.kind, id=str(event.id))
                if ended:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), RECHECK)
        finally:
            self._waiting[video_id].discard(woken)
            if not self._waiting[video_id]:
                del self._waiting[video_id]

    def _newest(self) -> int:
        with self._database.read() as session:
            return session.scalar(select(func.max(Event.id))) or 0

    def _changed(self) -> list[str]:
        """The videos with new events."""
        changed = select(Event.video_id, func.max(Event.id)).where(Event.id > self._last).group_by(Event.video_id)
        with self._database.read() as session:
            rows = session.execute(changed).all()
        self._last = max([self._last, *(newest for _, newest in rows)])
        return [video_id for video_id, _ in rows]

    def _look(self, video_id: str, last: int) -> tuple[Sequence[Event], bool]:
        """The events after one, and whether they are the last: the event of an end is stored with the end."""
        later = select(Event).where(Event.video_id == video_id, Event.id > last).order_by(Event.id)
        with self._database.read() as session:
            ended = session.scalar(select(Video.state).where(Video.id == video_id)) not in UNFINISHED  # before events
            return session.scalars(later).all(), ended
