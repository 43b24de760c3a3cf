"""The whole service as processes: its server and its workers are killed, and nothing is lost or done twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import func, select

from benchmarks.serve import workers_of
from tests.apps.conftest import status
from tests.apps.server.running import Running, started, until
from tokenflow.apps.server import pool
from tokenflow.apps.server.credits import HELD, RETURNED, balance
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.keys import create_key
from tokenflow.apps.server.pool_options import PoolOptions
from tokenflow.apps.server.tables import COMPLETED, Entry, Key, Video

pytestmark = pytest.mark.serve

STEPS = 30


@pytest.fixture
def running(url: str, tmp_path: Path, content: dict[str, Any]) -> Iterator[Running]:
    with started(content, tmp_path, url) as running:
        yield running


def test_no_accepted_video_is_lost_or_done_twice_when_processes_are_killed(
    running: Running, database: Database, clip: Path, tmp_path: Path
) -> None:
    key = create_key(database, "bob", 1000, None)
    client = running.client(key)
    settings = f'{{"edit": {{"steps": {STEPS}}}}}'

    def show(video_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = client.get(f"/v1/videos/{video_id}").json()
        return shown

    until(lambda: running.is_ready)
    ids = []
    for number in range(3):
        files = {"video": ("clip.mp4", clip.read_bytes())}
        data = {"prompt": "a tiger", "seed": str(number), "settings": settings}
        answer = client.post("/v1/videos", files=files, data=data, timeout=60)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])

    until(lambda: show(ids[0])["stage"] == "edit")
    (worker,) = workers_of(running.process.pid)
    worker.kill()
    until(lambda: show(ids[1])["stage"] == "edit" or show(ids[0])["stage"] == "edit")
    running.kill()
    assert not list((tmp_path / "service" / "incoming").iterdir())
    running.start()
    until(lambda: running.is_ready)
    until(lambda: all(show(each)["status"] == "completed" for each in ids))
    with database.read() as session:
        key_id = session.scalars(select(Key.id)).one()
        found = balance(session, key_id)
        assert session.get_one(Key, key_id).credits == found.left
        prices = sum(session.scalars(select(Video.price)))
        assert (found.left, found.held, found.spent) == (1000 - prices, 0, prices)
        kinds = select(Entry.kind, func.count()).where(Entry.kind.in_((HELD, RETURNED))).group_by(Entry.kind)
        assert [tuple(row) for row in session.execute(kinds)] == [(HELD, 3)]
        assert session.scalar(select(func.count()).where(Video.state == COMPLETED)) == 3
    for each in ids:
        assert client.get(f"/v1/videos/{each}/content").content[4:8] == b"ftyp"


def test_others_cannot_reach_a_server_without_keys(
    url: str, tmp_path: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    where = ("--data", str(tmp_path / "service"), "--database", url, "--config", str(tmp_path / "server.yaml"))
    assert status("serve", *where, "--host", "0.0.0.0") == 2
    assert "there is no key that lets them in; create one: tokenflow keys create" in capsys.readouterr().err
    assert status("serve", *where, "--address", "127.0.0.1:6379") == 2
    assert "apply to the ray engine only" in capsys.readouterr().err
    assert status("serve", *where[:2], "--database", "mysql://somewhere") == 2
    assert "expected --database to begin with sqlite:// or postgresql://" in capsys.readouterr().err


def test_mistakes_in_a_variant_are_named_before_anything_starts(
    url: str, tmp_path: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    content["variants"]["standard"]["settings"] = {"edit": {"stepps": 3}}
    (tmp_path / "server.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert status("serve", "--data", str(tmp_path / "service"), "--config", str(tmp_path / "server.yaml")) == 2
    assert "variants.standard: settings: edit.stepps" in capsys.readouterr().err


def test_workers_of_another_server_need_none_of_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[PoolOptions] = []
    monkeypatch.setattr(pool, "run_pool", started.append)
    where = ("--data", str(tmp_path / "service"), "--config", str(tmp_path / "missing.yaml"))
    assert status("serve", "--part", "workers", *where) == 0
    (options,) = started
    assert PoolOptions.from_line(options.to_line()) == options
