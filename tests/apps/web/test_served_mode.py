"""A page that is served to others takes its own clips, models and edited frames only, however others are named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.apps.web.conftest import names_and_paths, nested
from tokenflow.apps.web import mount
from tokenflow.apps.web.fields import element
from tokenflow.apps.web.form import EDITED_FRAMES, to_config, to_edit
from tokenflow.apps.web.page import build
from tokenflow.apps.web.region_fields import LISTED, MASK, PAINTED, REGIONS
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.space import Space
from tokenflow.config import Edit
from tokenflow.errors import ConfigError

FOREIGN = "/etc/hostname"

REQUEST: Any = SimpleNamespace(username="ann")

HAVE_A_FIELD = ("model.path", EDITED_FRAMES, REGIONS)

FOREIGN_MASK = [{"mask": FOREIGN}]


@pytest.fixture
def shared(site: Site) -> Site:
    return replace(site, space=replace(site.space, is_local=False))


@pytest.fixture
def form(values: dict[str, str], shared: Site) -> dict[str, str]:
    return {key: text for key, text in values.items() if key in shared.keys}


def functions(page: Any) -> dict[str, Callable[..., Any]]:
    """What the page calls, by name."""
    return {each.fn.__name__: each.fn for each in page.fns.values() if each.fn is not None}


def foreign(key: str) -> dict[str, str]:
    """What is typed into a field to name a file or model of the server."""
    return {REGIONS: "list", LISTED: str(FOREIGN_MASK)} if key == REGIONS else {key: FOREIGN}


def test_each_is_refused_in_yaml(shared: Site, form: dict[str, str], clip: str) -> None:
    read = functions(build(shared))["read"]
    written = to_config(form, clip, shared.space).to_yaml()
    assert "The form has these settings" in read(REQUEST, written, "")[0]
    for key in names_and_paths() | {"model.revision", "model.device", "output.codec", "metrics.enabled"}:
        content = nested(written)
        others = {"model.device": "meta", "output.codec": "hevc", "metrics.enabled": False, REGIONS: FOREIGN_MASK}
        given = others.get(key, FOREIGN)
        section: Any = content
        *sections, name = key.split(".")
        for each in sections:
            section = section[each]
        section[name] = given
        content["clip"]["path"] = given if key == "clip.path" else clip
        note, named, *fields = read(REQUEST, yaml.safe_dump(content), "")
        assert FOREIGN not in repr([named, *fields])
        if key not in ("output.dir", "trajectories.dir"):  # which are left to the page
            assert key in note
            assert 'role="alert"' in note


@pytest.mark.parametrize("text", ["extends: /etc/hostname", "edit: {prompt: '${oc.env:HOME}'}", "a: [${oc.env:HOME}]"])
def test_other_files_and_variables_are_refused_in_yaml(text: str, shared: Site) -> None:
    note, *_ = functions(build(shared))["read"](REQUEST, text, "")
    assert 'role="alert"' in note


def test_each_is_refused_as_a_setting(shared: Site, form: dict[str, str], clip: str) -> None:
    own = shared.of(REQUEST)
    assert own.config(form, clip).model.path == form["model.path"]
    for key in names_and_paths():
        with pytest.raises(ConfigError) as raised:
            own.config(form, FOREIGN) if key == "clip.path" else own.config(form | foreign(key), clip)
        assert raised.value.mistakes[0].startswith(f"{key}: ")


def test_each_is_refused_on_the_page(shared: Site, form: dict[str, str], clip: str) -> None:
    page = build(shared)
    elements = {block.elem_id for block in page.blocks.values()}
    answer = functions(page)["edit_whole"]
    for key in names_and_paths():
        assert (element(key) in elements) == (key in HAVE_A_FIELD)
        if key in HAVE_A_FIELD:
            answered = answer(REQUEST, clip, *(form | foreign(key)).values())
            (wrong,) = (each for each in answered if isinstance(each, dict) and each.get("elem_classes"))
            assert FOREIGN in wrong["info"]
    answer(REQUEST, FOREIGN, *form.values())
    assert shared.jobs.unfinished() == []


@pytest.mark.parametrize(
    "fields",
    [
        {REGIONS: "mask", MASK: FOREIGN},
        {REGIONS: "painted", PAINTED: f"{{mask: {FOREIGN}, mask_frame: 0}}"},
        {REGIONS: "list", LISTED: str([{"words": "dog"}, *FOREIGN_MASK])},
    ],
)
def test_a_mask_that_was_not_uploaded_is_refused(
    fields: dict[str, str], shared: Site, form: dict[str, str], clip: str
) -> None:
    with pytest.raises(ConfigError, match=rf"edit\.regions: {FOREIGN} is not a mask of this page"):
        shared.of(REQUEST).config(form | fields, clip)


def test_only_uploads_are_painted_on_and_drawn(shared: Site, form: dict[str, str], clip: str, tmp_path: Path) -> None:
    draw = functions(build(shared))["draw_chosen"]
    of_clip = [text for key, text in form.items() if key.startswith("clip.")]
    Image.new("L", (24, 16), 255).save(tmp_path / "mask.png")
    held = f"{{mask: {tmp_path / 'mask.png'}, mask_frame: 0}}"
    *_, canvas, painted, note = draw(REQUEST, "painted", held, "0", clip, *of_clip)
    assert (canvas["layers"], painted, note) == ([], "", "")
    note = draw(REQUEST, "painted", "", "0", FOREIGN, *of_clip)[-1]
    assert "is not a clip of this page" in note


def test_sentences_are_taken_literally(shared: Site, form: dict[str, str], clip: str) -> None:
    config = shared.of(REQUEST).config(form | {"edit.prompt": "${oc.env:HOME}"}, clip)
    assert config.edit.prompt == "${oc.env:HOME}"


def test_edited_frames_of_an_example_may_be_used(setup: Path, space: Space, tmp_path: Path) -> None:
    example = tmp_path / "keyframes.yaml"
    frames = str(tmp_path / "frames")
    settings = {"extends": str(setup / "config.yaml"), "edit": {"mode": "keyframes", "keyframes": {"frames": frames}}}
    example.write_text(yaml.safe_dump(settings))
    site = Site(replace(space, is_local=False, examples=(example,)))
    site.check_edit(to_edit({EDITED_FRAMES: frames}))
    site.jobs.close()


def test_references_have_to_be_uploaded(shared: Site, tmp_path: Path) -> None:
    own = shared.of(REQUEST)
    outside, uploaded = tmp_path / "outside.png", own.space.edited_frames / "abc" / "tiger.png"
    uploaded.parent.mkdir(parents=True)
    for path in (outside, uploaded):
        Image.new("RGB", (8, 8)).save(path)
    own.check_edit(Edit(prompt="", references=[uploaded]))
    with pytest.raises(ConfigError, match=r"outside\.png is not a reference of this page; upload it"):
        own.check_edit(Edit(prompt="", references=[uploaded, outside]))
    assert "edit.ip_adapter" not in shared.keys


def test_edited_frames_of_others_are_not_shown(shared: Site) -> None:
    ann, bob = shared.of(REQUEST).space, shared.of(SimpleNamespace(username="bob")).space  # type: ignore[arg-type]
    for space in (ann, bob):
        folder = space.edited_frames / "abc"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "frame_0.png")
    show = functions(build(shared))["show_given"]
    assert len(show(REQUEST, str(ann.edited_frames / "abc"))["value"]) == 1
    assert show(REQUEST, str(bob.edited_frames / "abc"))["value"] == []


@pytest.mark.parametrize("name", ["keep_clip", "keep_images_of", "keep_references_of", "keep_mask"])
def test_a_file_that_was_not_uploaded_cannot_be_named_as_an_upload(name: str, space: Space, clip: str) -> None:
    app = FastAPI()
    site = mount(app, "/ui", replace(space, is_local=False))
    with TestClient(app) as client:
        functions = client.get("/ui/config").json()["dependencies"]
        (number,) = (each["id"] for each in functions if each["api_name"] == name)
        file = {"path": clip, "meta": {"_type": "gradio.FileData"}}
        data = {"fn_index": number, "session_hash": "a", "data": [[file] if name == "keep_images_of" else file]}
        joined = client.post("/ui/gradio_api/queue/join", json=data)
        answered = (
            client.get("/ui/gradio_api/queue/data", params={"session_hash": "a"}).text if joined.is_success else ""
        )
    site.jobs.close()
    assert '"success":true' not in answered.replace(" ", "")
    assert not space.uploads.exists()
