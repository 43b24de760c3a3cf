"""How long videos wait: what is left of those that run and all that is ahead, shared by the workers."""

import pytest

from tests.apps.server.test_credits import new_video
from tests.apps.server.test_fairness import queue_up
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.estimates import (
    LATEST,
    pace_of_unfinished,
    seconds_of_running,
    seconds_per_work,
    seconds_until_done,
)
from tokenflow.apps.server.fairness import places
from tokenflow.apps.server.lifecycle import accept, claim, complete, report
from tokenflow.apps.server.tables import Video

pytestmark = pytest.mark.serve

WORK = 4 * 16 * 16


def made(database: Database, count: int, seconds: float, model: str = "standard") -> None:
    """Videos of a model that took so long."""
    with database.write() as session:
        for number in range(count):
            video = new_video(f"{model}-{seconds}-{number}", owner="earlier")
            video.model = model
            accept(session, video)
            assert claim(session, "pool") is not None
            complete(session, video.id, "pool", seconds, None)


def seconds_left(database: Database, *ids: str) -> list[float | None]:
    with database.read() as session:
        pace = pace_of_unfinished(session)
        running = seconds_of_running(session, pace)
        found = places(session, ids, pace)
        return [seconds_until_done(found[each], running) for each in ids]


def test_the_latest_videos_of_a_model_tell_how_long_another_takes(database: Database) -> None:
    made(database, 3, 100.0)
    made(database, LATEST, 8.0)
    made(database, 1, 50.0, "other")
    with database.read() as session:
        pace = seconds_per_work(session, ["standard", "other", "new"])
    assert pace == {"standard": pytest.approx(8 / WORK), "other": pytest.approx(50 / WORK)}


def test_workers_share_what_is_ahead(database: Database) -> None:
    made(database, 1, 10.0)
    queue_up(database, "ann", "bob", "cleo", "dan", "eve")
    assert seconds_left(database, "cleo2") == [None]  # no worker has taken anything yet
    with database.write() as session:
        for _ in range(2):
            claim(session, "pool")
        report(session, "ann0", 50, "edit", 6.0)
    assert seconds_left(database, "cleo2", "dan3", "eve4") == [18.0, 23.0, 28.0]  # (6 + 10) / 2 + 10 …


def test_one_video_of_unknown_length_makes_those_behind_it_unknown(database: Database) -> None:
    made(database, 1, 10.0)
    queue_up(database, *["bob"] * 4)
    with database.write() as session:
        claim(session, "pool")
        session.get_one(Video, "bob2").model = "new"
    assert seconds_left(database, "bob1", "bob2", "bob3") == [20.0, None, None]
    with database.write() as session:
        session.get_one(Video, "bob0").model = "new"
    assert seconds_left(database, "bob1") == [None]
    with database.write() as session:
        report(session, "bob0", 1, "edit", 3.0)
    assert seconds_left(database, "bob1") == [13.0]


def test_what_runs_and_has_not_told_yet_takes_what_others_took(database: Database) -> None:
    made(database, 1, 10.0)
    queue_up(database, "bob", "bob")
    with database.write() as session:
        claim(session, "pool")
        report(session, "bob0", 40, "load", None)
    assert seconds_left(database, "bob1") == [16.0]
