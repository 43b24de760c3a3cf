"""The web page of the service: keys let visitors in, and what they ask for waits in the same queue."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

pytest.importorskip("gradio")

from tests.apps.server.fixtures import Drain, listening
from tokenflow.apps.server.app import create_app
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.keys import create_key, revoke_key
from tokenflow.apps.server.page import QueueEditor, create_page, may_enter, page_space
from tokenflow.apps.server.page_options import PageOptions
from tokenflow.apps.server.settings import ServerSettings
from tokenflow.apps.server.tables import Video
from tokenflow.apps.web.form import keys, to_config
from tokenflow.apps.web.space import Space
from tokenflow.config import Config
from tokenflow.errors import Cancelled, ConfigError
from tokenflow.events import Event, Progress

pytestmark = pytest.mark.serve


@pytest.fixture
def of_ann(settings: ServerSettings, clip: Path, folders: Folders) -> Config:
    """What the page makes of the form of the visitor ann."""
    visitor = f"user-{hashlib.sha256(b'ann').hexdigest()[:16]}"
    space = page_space(settings, folders).of("ann")
    assert visitor == space.outputs.name
    return to_config(form(space), str(clip), space)


def form(space: Space, **given: str) -> dict[str, str]:
    values = dict.fromkeys(keys(space), "")
    return values | {"clip.prompt": "a dog", "edit.prompt": "a tiger", "model.path": "standard"} | given


def credits(client: TestClient) -> tuple[int, int, int]:
    usage = client.get("/v1/usage").json()
    return usage["credits"], usage["held"], usage["spent"]


def test_an_edit_of_the_page_is_made_by_the_workers_for_credits(
    client: TestClient, settings: ServerSettings, database: Database, folders: Folders, of_ann: Config, drain: Drain
) -> None:
    events: list[Event] = []
    editor = QueueEditor(settings, database, folders)
    edit = threading.Thread(target=editor.edit, args=(of_ann, events.append, lambda: False))
    edit.start()
    while not events:
        edit.join(0.05)
    assert credits(client) == (992, 8, 0)
    drain()
    edit.join()
    assert (of_ann.output.dir / "edited.mp4").exists()
    assert isinstance(events[0], Progress)
    assert credits(client) == (992, 0, 8)


def test_an_edit_of_the_page_can_be_cancelled_and_refused(
    client: TestClient, settings: ServerSettings, database: Database, folders: Folders, of_ann: Config
) -> None:
    editor = QueueEditor(settings, database, folders)
    with pytest.raises(Cancelled):
        editor.edit(of_ann, lambda event: None, lambda: True)
    assert credits(client) == (1000, 0, 0)
    with pytest.raises(ConfigError, match="tries no single frames"):
        editor.trial(of_ann, lambda event: None, lambda: False)
    many = of_ann.model_copy(update={"edit": of_ann.edit.model_copy(update={"steps": 51})})
    with pytest.raises(ConfigError, match="expected at most 50, got 51"):
        editor.edit(many, lambda event: None, lambda: False)
    revoke_key(database, "ann")
    with pytest.raises(ConfigError, match="your key was revoked"):
        editor.edit(of_ann, lambda event: None, lambda: False)


def test_a_variant_is_chosen_by_name_with_its_price_settings_and_limits(
    client: TestClient, settings: ServerSettings, database: Database, folders: Folders, of_ann: Config, clip: Path
) -> None:
    space = page_space(settings, folders).of("ann")
    assert space.models == ("standard", "small")
    assert not {"edit.batch_size", "edit.keyframe_window", "edit.ip_adapter"} & set(keys(space))
    editor = QueueEditor(settings, database, folders)
    with pytest.raises(Cancelled):
        editor.edit(of_ann, lambda event: None, lambda: True)
    with database.read() as session:
        video = session.scalars(select(Video)).one()
    assert (video.model, video.price) == ("standard", 8)
    assert (video.config["edit"]["steps"], video.config["edit"]["keyframe_interval"]) == (2, 2)
    assert video.config["clip"]["size"] == 16
    small = to_config(form(space, **{"model.path": "small"}), str(clip), space)
    with pytest.raises(ConfigError, match="more than 3 frames"):
        editor.edit(small, lambda event: None, lambda: True)


def test_the_page_and_the_interface_count_against_the_same_rate(
    app: FastAPI, settings: ServerSettings, database: Database, folders: Folders, of_ann: Config
) -> None:
    key = create_key(database, "ann", 100, "1/min")
    with TestClient(app) as client:
        assert client.post("/v1/videos", headers={"authorization": f"Bearer {key}"}).status_code == 422
    with pytest.raises(ConfigError, match="more than 1/min"):
        QueueEditor(settings, database, folders).edit(of_ann, lambda event: None, lambda: True)


def test_only_the_name_of_a_key_and_the_key_let_a_visitor_in(database: Database, key: str) -> None:
    check = may_enter(database)
    other = create_key(database, "bob", 1, None)
    assert check("ann", key)
    assert [check(*each) for each in (("ann", other), ("bob", key), ("ann", "é"), ("", ""))] == [False] * 4


def test_the_page_is_under_ui_behind_the_login(
    settings: ServerSettings, database: Database, folders: Folders, key: str
) -> None:
    page, site = create_page(settings, database, folders)
    with listening(page) as address:
        app = create_app(settings, database, folders, page_port=int(address.rpartition(":")[2]))
        with TestClient(app) as client:
            assert client.get("/ui", follow_redirects=False).headers["location"] == "/ui/"
            assert client.get("/ui/").status_code == 200
            assert client.get("/ui/config").status_code == 401
            login = {"username": "ann", "password": "wrong"}
            assert client.post("/ui/login", data=login).status_code == 400
            assert client.post("/ui/login", data=login | {"password": key}).json() == {"success": True}
            assert client.get("/ui/config").json()["dependencies"]
    site.jobs.close()


def test_a_page_that_is_not_there_is_said(settings: ServerSettings, database: Database, folders: Folders) -> None:
    with TestClient(create_app(settings, database, folders, page_port=9)) as client:
        assert client.get("/ui/").json()["error"]["message"] == "the page is still starting; try again in a moment"


def test_the_options_of_the_page_pass_through_a_line(settings: ServerSettings) -> None:
    options: Any = PageOptions(data="a", database="b", port=1, settings=settings)
    assert PageOptions.from_line(options.to_line()) == options
