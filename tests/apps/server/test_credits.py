"""Credits are held, kept or given back exactly once, whoever does it at the same time."""

import threading
import time

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tokenflow.apps.server.credits import balance, give_back, hold, price
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.keys import create_key
from tokenflow.apps.server.lifecycle import accept, ask_to_cancel, claim, complete, fail, put_back
from tokenflow.apps.server.tables import CANCELLED, COMPLETED, FAILED, IN_PROGRESS, QUEUED, Delivery, Key, Video

pytestmark = pytest.mark.serve


def new_video(video_id: str, key_id: str | None = None, owner: str = "ann", cost: int = 10) -> Video:
    return Video(
        id=video_id,
        owner=owner,
        key_id=key_id,
        family="clip",
        state=QUEUED,
        model="standard",
        prompt="a tiger",
        config={},
        frames=4,
        width=16,
        height=16,
        duration=0.4,
        price=cost,
        request_digest="",
        created_at=time.time(),
        keep_seconds=60.0,
        progress=0,
        cancel_requested=False,
    )


@pytest.fixture
def key_id(database: Database) -> str:
    return create_key(database, "bob", 100, None).split("_")[1]


def left(database: Database, key_id: str) -> tuple[int, int, int]:
    """Credits left, held and spent; those of the entries are those of the key."""
    with database.read() as session:
        found = balance(session, key_id)
        assert session.get_one(Key, key_id).credits == found.left
        assert found.granted == found.left + found.held + found.spent == 100
    return found.left, found.held, found.spent


@pytest.mark.parametrize(("credits", "expected"), [(0, 0), (0.1, 1), (1, 1), (500, 13), (1000, 25)])
def test_prices_are_whole_credits_per_frame_and_megapixel(credits: float, expected: int) -> None:
    assert price(credits, frames=4, width=100, height=62) == expected


def test_a_completed_video_is_paid_once(database: Database, key_id: str) -> None:
    with database.write() as session:
        assert accept(session, new_video("v", key_id))
    assert left(database, key_id) == (90, 10, 0)
    for _ in range(2):
        with database.write() as session:
            claim(session, "pool")
            complete(session, "v", "pool", 1.0, None)
    assert left(database, key_id) == (90, 0, 10)


def test_a_failed_video_is_paid_back_once_and_stays_failed(database: Database, key_id: str) -> None:
    with database.write() as session:
        accept(session, new_video("v", key_id))
        claim(session, "pool")
    for _ in range(2):
        with database.write() as session:
            fail(session, "v", "pool", "invalid_input", "no")
            complete(session, "v", "pool", 1.0, None)
            put_back(session, "v", "pool")
    with database.read() as session:
        assert session.get_one(Video, "v").state == FAILED
    assert left(database, key_id) == (100, 0, 0)


def test_only_the_pool_that_runs_a_video_ends_it(database: Database, key_id: str) -> None:
    with database.write() as session:
        accept(session, new_video("v", key_id))
        claim(session, "first")
        put_back(session, "v", "first")
        claim(session, "second")
        fail(session, "v", "first", "invalid_input", "no")
        assert session.get_one(Video, "v", populate_existing=True).state == IN_PROGRESS
        complete(session, "v", "second", 1.0, None)
        assert session.get_one(Video, "v", populate_existing=True).state == COMPLETED
    assert left(database, key_id) == (90, 0, 10)


@pytest.mark.parametrize("is_running", [False, True])
def test_a_cancelled_video_is_paid_back_even_if_its_pool_dies(
    is_running: bool, database: Database, key_id: str
) -> None:
    with database.write() as session:
        video = new_video("v", key_id)
        video.webhook_url = "https://example.org"
        accept(session, video)
    with database.write() as session:
        if is_running:
            claim(session, "pool")
        ask_to_cancel(session, session.get_one(Video, "v"))
        ask_to_cancel(session, session.get_one(Video, "v"))
        put_back(session, "v", "pool")
        assert session.get_one(Video, "v", populate_existing=True).state == CANCELLED
        assert len(session.scalars(select(Delivery)).all()) == 1
    assert left(database, key_id) == (100, 0, 0)


def test_giving_back_twice_undoes_all_of_the_transaction(database: Database, key_id: str) -> None:
    video = new_video("v", key_id)
    with database.write() as session:
        hold(session, video)
        give_back(session, video)
    with pytest.raises(IntegrityError), database.write() as session:
        give_back(session, video)
    with database.read() as session:
        assert balance(session, key_id).left == 100


def test_no_more_is_held_than_there_is_by_many_at_once(database: Database, key_id: str) -> None:
    outcomes: list[bool] = []

    def spend(number: int) -> None:
        with database.write() as session:
            outcomes.append(accept(session, new_video(f"v{number}", key_id, cost=15)))

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 4 + [True] * 6
    assert left(database, key_id) == (10, 90, 0)


def test_a_video_is_started_by_one_of_several_pools(database: Database, key_id: str) -> None:
    with database.write() as session:
        accept(session, new_video("v", key_id))
    claimed: list[str] = []

    def take(pool: str) -> None:
        with database.write() as session:
            if claim(session, pool):
                claimed.append(pool)

    threads = [threading.Thread(target=take, args=(f"pool{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 1
