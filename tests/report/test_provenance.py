"""The record of a run: whole or not there."""

import json
from pathlib import Path

import pytest

from tokenflow.report import Stopwatch, versions, write_json


def test_json_is_read_back_and_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for content in ({"seconds": {"edit": 1.5}}, {"prompt": "a “tiger” – 虎", "none": None}):
        write_json(path, content)
        assert json.loads(path.read_text()) == content
    assert list(tmp_path.iterdir()) == [path]


def test_json_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_json_appears_under_its_name_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    seen: list[tuple[bool, dict]] = []
    replace = Path.replace

    def noted(temporary: Path, target: Path) -> Path:
        seen.append((path.exists(), json.loads(temporary.read_text())))
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", noted)
    write_json(path, {"a": 1})
    assert seen == [(False, {"a": 1})]


def test_figures_and_versions_are_json() -> None:
    content = {**Stopwatch().figures(), **versions()}
    assert json.loads(json.dumps(content)) == content
    assert {"python", "tokenflow", "torch", "diffusers"} <= set(versions())
