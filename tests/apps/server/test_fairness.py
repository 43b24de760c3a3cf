"""Owners take turns, however many videos one of them has waiting."""

from collections.abc import Collection

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.apps.server.test_credits import new_video
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.fairness import next_video, places
from tokenflow.apps.server.lifecycle import accept, claim, complete
from tokenflow.apps.server.tables import QUEUED, Video

pytestmark = pytest.mark.serve


def positions(session: Session, ids: Collection[str]) -> dict[str, int]:
    return {video_id: place.number for video_id, place in places(session, ids, {}).items()}


def queue_up(database: Database, *owners: str) -> list[str]:
    ids = []
    with database.write() as session:
        for number, owner in enumerate(owners):
            video = new_video(f"{owner}{number}", owner=owner)
            video.created_at = float(number)
            accept(session, video)
            ids.append(video.id)
    return ids


def test_a_hundred_waiting_videos_delay_anothers_first_by_those_that_run(database: Database) -> None:
    queue_up(database, *["ann"] * 100, "bob")
    with database.write() as session:
        assert [claim(session, "pool").owner for _ in range(3)] == ["ann", "bob", "ann"]  # type: ignore[union-attr]


def test_with_one_worker_owners_alternate(database: Database) -> None:
    queue_up(database, "ann", "ann", "ann", "bob", "bob")
    order = []
    for _ in range(5):
        with database.write() as session:
            video = claim(session, "pool")
            assert video is not None
            order.append(video.owner)
            complete(session, video.id, "pool", 1.0, None)
    assert order == ["ann", "bob", "ann", "bob", "ann"]


def test_positions_are_the_order_in_which_videos_start(database: Database) -> None:
    ids = queue_up(database, "ann", "ann", "ann", "bob", "bob")
    with database.read() as session:
        assert positions(session, ids) == {"ann0": 1, "bob3": 2, "ann1": 3, "bob4": 4, "ann2": 5}
        assert positions(session, ["bob4"]) == {"bob4": 4}
        assert positions(session, []) == {}
        assert next_video(session) == "ann0"
    with database.write() as session:
        claim(session, "pool")
        assert positions(session, ids) == {"bob3": 1, "ann1": 2, "bob4": 3, "ann2": 4}


def test_positions_count_who_has_had_a_turn_before(database: Database) -> None:
    queue_up(database, "bob", "ann")
    drained(database)
    with database.write() as session:
        for number, owner in enumerate(("ann", "ann", "bob", "cleo", "bob", "ann")):
            video = new_video(f"again-{owner}{number}", owner=owner)
            video.created_at = 100.0 + number
            accept(session, video)
    with database.read() as session:
        ids = list(session.scalars(select(Video.id).where(Video.state == QUEUED)))
        expected = positions(session, ids)
    assert drained(database) == sorted(expected, key=lambda each: expected[each])


def drained(database: Database) -> list[str]:
    """Start and complete all that waits, one after another: the order."""
    order = []
    while True:
        with database.write() as session:
            video = claim(session, "pool")
            if video is None:
                return order
            order.append(video.id)
            complete(session, video.id, "pool", 1.0, None)
