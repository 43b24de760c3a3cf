"""The page is served before torch is there, shows every setting, and gives nothing away."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.apps.conftest import status
from tokenflow.apps.ports import check_port
from tokenflow.apps.web import mount
from tokenflow.apps.web.fields import CHOICES, SETTINGS, element, marked
from tokenflow.apps.web.page import build
from tokenflow.apps.web.quirks import shown_file
from tokenflow.apps.web.region_fields import KINDS, REGIONS
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.space import Space
from tokenflow.config import Config
from tokenflow.config.suggestions import annotation
from tokenflow.errors import EngineError

FIRST_ANSWER = """
import sys
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tokenflow.apps.web import mount
app = FastAPI()
site = mount(app, "")
with TestClient(app) as client:
    answer = client.get("/")
print(answer.status_code, "What it should show" in answer.text, len(site.examples), "torch" in sys.modules)
site.jobs.close()
"""


@pytest.fixture
def client(site: Site, space: Space) -> Any:
    app = FastAPI()
    mounted = mount(app, "/ui", space)
    with TestClient(app) as client:
        yield client
    mounted.jobs.close()


def test_the_first_answer_is_served_before_torch_is_imported() -> None:
    ran = subprocess.run([sys.executable, "-c", FIRST_ANSWER], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["200", "True", "6", "False"]


def test_every_setting_has_a_field_with_its_description(site: Site) -> None:
    blocks = build(site).blocks.values()
    fields = {block.elem_id: block for block in blocks if (block.elem_id or "").startswith("setting-")}
    assert set(fields) == {element(key) for key in site.keys}
    described = fields[element("edit.pnp.features_until")]
    assert described.info.startswith("number from 0 to 1. Fraction of the steps")
    assert described.placeholder == SETTINGS["edit.pnp.features_until"].default


def test_every_choice_that_is_in_sight_has_words() -> None:
    for key, choices in CHOICES.items():
        offered = list(KINDS) if key == REGIONS else list(get_args(annotation(Config, key)))
        assert [value for _, value in choices] == offered


def test_a_mistake_replaces_the_description_of_its_field_until_it_is_mended(site: Site) -> None:
    with gr.Blocks():
        fields = {key: gr.Textbox(info=f"about {key}") for key in ("edit.steps", "edit.seed")}
    wrong, right = marked(fields, {"edit.steps": "expected a number"})
    assert (wrong["info"], right["info"]) == ("✖ expected a number", "about edit.seed")
    assert marked(fields, {})[0]["info"] == "about edit.steps"


def test_every_control_has_a_label(site: Site) -> None:
    controls = [block for block in build(site).blocks.values() if isinstance(block, gr.components.FormComponent)]
    seen = [block for block in controls if block.visible is True]
    assert seen
    assert all(block.label and block.show_label for block in seen)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/hostname",
        "pyproject.toml",
        "/proc/self/environ",
        "{outputs}/../secret.txt",
        "{outputs}/result/report.json",
    ],
)
def test_files_outside_of_its_folders_cannot_be_read(name: str, client: TestClient, space: Space) -> None:
    (space.outputs / "result").mkdir(parents=True)
    for secret in (space.outputs.parent / "secret.txt", space.outputs / "result" / "report.json"):
        secret.write_text("secret")
    place = name.format(outputs=space.outputs)
    assert client.get(f"/ui/gradio_api/file={place}").status_code in (403, 404)


def test_what_is_shown_can_be_read(client: TestClient, space: Space) -> None:
    space.outputs.mkdir()
    (space.outputs / "report.json").write_text("{}")
    copy = shown_file(space.outputs / "report.json")
    assert client.get(f"/ui/gradio_api/file={copy}").text == "{}"


@pytest.mark.parametrize(
    "path", ["file=http://127.0.0.1/", "file=https:%2F%2Fexample.org", "proxy=https://example.org"]
)
def test_other_addresses_cannot_be_reached_through_it(path: str, client: TestClient) -> None:
    assert client.get(f"/ui/gradio_api/{path}").status_code == 403


def test_no_function_of_the_page_is_an_interface_for_programs(client: TestClient) -> None:
    info = client.get("/ui/gradio_api/info").json()
    assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_nothing_is_fetched_from_elsewhere(client: TestClient) -> None:
    page = client.get("/ui/").text
    assert "googleapis" not in page
    assert "cdn" not in page


def test_a_page_with_a_password_shows_nothing_without_it(space: Space) -> None:
    app = FastAPI()
    site = mount(app, "/ui", space, lambda name, password: password == "sesame")
    with TestClient(app) as client:
        shown = client.get("/ui/").text
        assert "What it should show" not in shown
        assert json.dumps(str(space.outputs)) not in shown
        assert client.get("/ui/config").status_code == 401
        assert client.post("/ui/login", data={"username": "me", "password": "open"}).status_code == 400
        assert client.post("/ui/login", data={"username": "me", "password": "sesame"}).status_code == 200
        assert "What it should show" in client.get("/ui/").text
    site.jobs.close()


def test_a_port_that_is_taken_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} .* choose another --port"):
            check_port("127.0.0.1", port)
        assert status("ui", "--port", str(port)) == 2
