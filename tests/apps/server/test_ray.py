"""The service before a Ray cluster: its videos are made there, and survive the death of a worker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests import ray_cluster
from tests.apps.server.running import Running, started, until
from tests.ray_cluster import busy_workers
from tokenflow.apps.ports import free_port
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.keys import create_key
from tokenflow.apps.server.pool_options import PoolOptions
from tokenflow.apps.server.tables import Video

pytest.importorskip("ray")
pytestmark = pytest.mark.ray

STEPS = 50


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
    database = Database(database_url(tmp_path))
    client = running.client(create_key(database, "ann", 1000, None))

    def submit(seed: int) -> str:
        data = {"prompt": "a tiger", "seed": str(seed), "settings": json.dumps({"edit": {"steps": STEPS}})}
        answer = client.post("/v1/videos", files={"video": ("clip.mp4", clip.read_bytes())}, data=data)
        assert answer.status_code == 202, answer.text
        return f"/v1/videos/{answer.json()['id']}"

    first = submit(seed=1)
    until(lambda: client.get(first).json()["stage"] == "edit")
    (worker,) = busy_workers()
    os.kill(worker, signal.SIGKILL)
    video = until(lambda: (shown := client.get(first).json())["status"] != "in_progress" and shown)
    assert (video["status"], video["error"]) == ("completed", None)
    assert client.get(f"{first}/content").content[4:8] == b"ftyp"
    (successor,) = busy_workers()
    assert successor != worker
    usage = client.get("/v1/usage").json()
    assert (usage["credits"], usage["held"], usage["spent"]) == (1000 - video["price"], 0, video["price"])

    second = submit(seed=2)
    until(lambda: client.get(second).json()["stage"] == "edit")
    running.stop()
    until(lambda: not busy_workers())
    with database.read() as session:
        states = session.scalars(select(Video.state).order_by(Video.created_at)).all()
    assert states == ["completed", "queued"]
    database.close()


def test_workers_that_cannot_join_a_cluster_say_why_in_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    options = PoolOptions(str(tmp_path), database_url(tmp_path), 1, "ray", address, None)
    command = [sys.executable, "-m", "tokenflow.apps.server.pool"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(options.to_line().decode())
        process.stdin.flush()  # and stays open, as that of a server that lives
        (line,) = process.stderr.read().splitlines()
        assert process.wait() == 1
    assert line.startswith(f"the Ray cluster at '{address}' cannot be reached")
