"""The record of a run: versions that never fail, and JSON that is written atomically."""

import importlib.metadata
import json
from pathlib import Path

import cv2
import pytest
import torch

from tokenflow.profiling import Stopwatch
from tokenflow.report import provenance, versions, write_json


def test_json_replaces_an_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for content in ({"seconds": {"edit": 1.5}}, {"prompt": "a “tiger” – 虎", "none": None}):
        write_json(path, content)
        assert json.loads(path.read_text()) == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_appears_only_once_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_versions_come_from_the_modules_where_no_distribution_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", fail)
    assert versions()["torch"] == torch.__version__
    assert versions()["opencv-python"] == cv2.__version__


@pytest.mark.parametrize("error", [ImportError, OSError, AttributeError])
def test_versions_of_broken_packages_are_unknown(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(importlib.metadata, "version", lambda name: None if name == "av" else fail(name))
    monkeypatch.setattr(provenance, "import_module", fail)
    assert set(versions()) == {"python", *provenance.PACKAGES}
    assert {versions()[name] for name in provenance.PACKAGES} == {"unknown"}
