"""The fixtures of these tests, where what they import is installed."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from tests.apps.server import postgres
from tests.tiny import moving_square, save_tiny_model
from tokenflow.apps.server import pool
from tokenflow.apps.server.app import create_app
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.keys import create_key
from tokenflow.apps.server.pool import Queue
from tokenflow.apps.server.settings import ServerSettings
from tokenflow.batch.worker import CANCELLED, Worker
from tokenflow.errors import Cancelled
from tokenflow.video import VideoWriter

POOL = "pool"
FRAMES = 4
numbers = count()


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    if postgres.programs() is None:
        pytest.skip(postgres.WHY_NOT)
    with postgres.cluster() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.sqlite'}"
    folder = request.getfixturevalue("postgres_folder")
    name = f"test{next(numbers)}"
    with psycopg.connect(f"postgresql://postgres@/postgres?host={folder}", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return f"postgresql://postgres@/{name}?host={folder}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "service")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model") / "model"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, width=24, height=16, rate=10, quality=0) as video:
        for image in moving_square(FRAMES):
            video.write(image)
    return path


@pytest.fixture
def content(model: str) -> dict[str, Any]:
    """The server's YAML."""
    few = {
        "inversion": {"steps": 2, "check": False, "warn_below_psnr": 0},
        "edit": {"steps": 2, "keyframe_interval": 2},
        "output": {"comparison": False, "contact_sheet": False},
        "metrics": {"enabled": False},
        "clip": {"size": 16},
    }
    variant = {"model": {"path": model, "device": "cpu"}, "settings": few, "credits": 5000}
    other = variant | {"credits": 0, "limits": {"frames": 3, "megabytes": 0.01}}
    return {"variants": {"standard": variant, "small": other}, "page": False}


@pytest.fixture
def settings(content: dict[str, Any]) -> ServerSettings:
    return ServerSettings.model_validate(content)


@pytest.fixture
def app(settings: ServerSettings, database: Database, folders: Folders) -> FastAPI:
    return create_app(settings, database, folders)


@pytest.fixture
def key(database: Database) -> str:
    return create_key(database, "ann", 1000, None)


@pytest.fixture
def client(app: FastAPI, key: str) -> Iterator[TestClient]:
    """A client with a key of 1000 credits; an edit of `clip` takes 8."""
    with TestClient(app, headers={"authorization": f"Bearer {key}"}, client=("127.0.0.1", 50_000)) as client:
        yield client


def with_key(client: TestClient, key: str) -> dict[str, str]:
    """The headers of another client."""
    return {"authorization": f"Bearer {key}"}


Submit = Callable[..., Response]


@pytest.fixture
def submit(client: TestClient, clip: Path) -> Submit:
    """Sends the clip with a prompt; fields and files may be given."""

    def submit(headers: dict[str, str] | None = None, params: Any = None, files: Any = None, **fields: Any) -> Response:
        data = {"prompt": "a tiger", "source_prompt": "a dog", **fields}
        files = {"video": ("clip.mp4", clip.read_bytes(), "video/mp4")} if files is None else files
        return client.post("/v1/videos", data=data, files=files, headers=headers, params=params)

    return submit


Drain = Callable[[], None]


@pytest.fixture
def queue(database: Database, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(pool, "INTERVAL", 0.0)
    return Queue(database, folders, POOL)


@pytest.fixture
def drain(queue: Queue) -> Drain:
    """Makes all videos of the queue, in this process, as a worker of the pool does."""
    worker = Worker(preview_every=1)

    def drain() -> None:
        while (job := queue.take()) is not None:
            queue.on_start(job, 0)
            try:
                result = worker.run(job.config, partial(queue.on_event, job, 0), partial(queue.is_cancelled, job))
            except Cancelled:
                result = CANCELLED
            queue.on_finish(job, 0, result)

    return drain


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address of the application, served to real clients."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
