"""The service before a Ray cluster: its videos are made there, and survive the death of a worker."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ray_cluster
from tests.apps.server.running import Running, started, until
from tests.ray_cluster import busy_workers
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.keys import create_key

pytest.importorskip("ray")
pytestmark = pytest.mark.ray

STEPS = 60


@pytest.fixture
def running(tmp_path: Path, content: dict[str, Any]) -> Iterator[Running]:
    with (
        ray_cluster.cluster(gpus=0) as address,
        started(content, tmp_path, database_url(tmp_path), "--engine", "ray", "--address", address) as running,
    ):
        yield running


def database_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'state.sqlite'}"


def test_a_video_is_made_on_a_cluster_though_its_worker_is_killed(running: Running, clip: Path, tmp_path: Path) -> None:
    until(lambda: running.is_ready)
    client = running.client(create_key(Database(database_url(tmp_path)), "ann", 1000, None))
    data = {"prompt": "a tiger", "settings": json.dumps({"edit": {"steps": STEPS}})}
    answer = client.post("/v1/videos", files={"video": ("clip.mp4", clip.read_bytes())}, data=data)
    assert answer.status_code == 202, answer.text
    path = f"/v1/videos/{answer.json()['id']}"

    until(lambda: client.get(path).json()["stage"] == "edit")
    (worker,) = busy_workers()
    os.kill(worker, signal.SIGKILL)
    video = until(lambda: (shown := client.get(path).json())["status"] != "in_progress" and shown)
    assert (video["status"], video["error"]) == ("completed", None)
    assert client.get(f"{path}/content").content[4:8] == b"ftyp"
    (successor,) = busy_workers()
    assert successor != worker
    events = [line.removeprefix("data: ") for line in client.get(f"{path}/events").text.splitlines()]
    stages = [json.loads(event).get("stage") for event in events if event.startswith("{")]
    assert stages == []
    usage = client.get("/v1/usage").json()
    assert (usage["credits"], usage["held"], usage["spent"]) == (1000 - video["price"], 0, video["price"])
    assert usage["videos"] == {"completed": 1}
    running.stop()
    until(lambda: not busy_workers())
