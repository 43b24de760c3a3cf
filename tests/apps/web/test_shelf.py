"""One model is kept, loaded once, and replaced when another one is asked for."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tokenflow.apps.web.shelf import Shelf
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import ModelNotFoundError
from tokenflow.events import Progress
from tokenflow.pipeline import job


def ignore(event: Any) -> None:
    """A listener."""


def test_a_model_is_loaded_once_until_another_is_asked_for(setup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = job.open_model

    def count(settings: ModelSettings, on_event: Any = None) -> Any:
        loaded.append(settings.dtype)
        return load(settings, on_event)

    monkeypatch.setattr(job, "open_model", count)
    shelf, settings = Shelf(), ModelSettings(path=str(setup / "model"), device="cpu", dtype="float32")
    first = shelf.get(settings, ignore)
    assert shelf.get(settings, ignore) is first
    other = shelf.get(settings.model_copy(update={"dtype": "bfloat16"}), ignore)
    assert other is not first
    assert loaded == ["float32", "bfloat16"]
    assert shelf.status == f"loaded {setup / 'model'} on cpu, bfloat16"
    assert shelf.is_settled


def test_a_model_that_cannot_be_loaded_is_told_and_the_next_one_can(setup: Path) -> None:
    shelf = Shelf()
    with pytest.raises(ModelNotFoundError):
        shelf.get(ModelSettings(path="no/such/model", device="cpu"), ignore)
    assert shelf.is_settled
    shelf.get(ModelSettings(path=str(setup / "model"), device="cpu"), ignore)
    assert shelf.status.startswith("loaded")


def test_the_page_does_not_wait_while_a_model_is_loaded_and_loads_none_twice(
    setup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    load, count = job.open_model, []

    def wait(settings: ModelSettings, on_event: Any = None) -> Any:
        count.append(settings)
        begun.set()
        assert go_on.wait(60)
        return load(settings, on_event)

    monkeypatch.setattr(job, "open_model", wait)
    shelf, settings = Shelf(), ModelSettings(path=str(setup / "model"), device="cpu")
    shelf.warm_up(settings)
    assert begun.wait(60)
    shelf.warm_up(settings)  # returns although the model is not there yet
    assert not shelf.is_settled
    go_on.set()
    shelf.get(settings, ignore)
    assert count == [settings]


def test_a_download_is_in_the_status_until_it_has_ended(setup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, load, seen = Shelf(), job.open_model, list[tuple[str, bool]]()

    def download(settings: ModelSettings, on_event: Any) -> Any:
        on_event(Progress("download", 1, 4, label="someone/model: a.safetensors"))
        seen.append((shelf.status, shelf.is_settled))
        return load(settings, on_event)

    monkeypatch.setattr(job, "open_model", download)
    shelf.get(ModelSettings(path=str(setup / "model"), device="cpu"), ignore)
    assert seen == [("downloading someone/model: a.safetensors, 0.0 of 0.0 MB (25 %)", False)]
    assert shelf.status.startswith("loaded")
