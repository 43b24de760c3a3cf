"""Models are listed with what they take, and marked where this machine cannot hold them."""

from pathlib import Path

import pytest

from tokenflow.apps.web.model_list import (
    FITS,
    FITS_NOT,
    FITS_WITH_CARE,
    HEADROOM,
    ModelEntry,
    device_memory,
    downloaded_models,
    list_models,
    models_html,
    published_html,
)
from tokenflow.models.presets import PRESETS


def test_a_model_of_a_folder_is_as_large_as_its_weights(setup: Path) -> None:
    model = setup / "model"
    weights = sum(path.stat().st_size for path in model.glob("*/*.safetensors"))
    assert weights > 0
    assert list_models([str(model)]) == [ModelEntry(str(model), weights)]


def test_a_model_that_needs_more_than_there_is_is_marked() -> None:
    memory = 1000
    small, large = ModelEntry("small", int(memory / HEADROOM) - 1), ModelEntry("large", memory)
    shown = models_html([small, large], memory)
    assert shown.index("fits into memory") < shown.index("large") < shown.index("does not fit into memory")


def test_models_that_are_kept_elsewhere_are_listed_without_a_size() -> None:
    (variant,) = list_models(["fast"])
    shown = models_html([variant], 1000)
    assert "<td>fast</td>" in shown
    assert "MB" not in shown
    assert "memory" not in shown


def test_published_models_are_marked_by_what_they_need() -> None:
    model = PRESETS[0]
    for memory, mark in (
        (model.memory() + 1, FITS),
        (model.least_memory() + 1, FITS_WITH_CARE),
        (model.least_memory(), FITS_NOT),
    ):
        row = next(row for row in published_html(memory).split("<tr>") if model.name in row)
        assert f"<td>{mark}</td>" in row
    assert all(each.name in published_html(0) for each in PRESETS)


def test_downloaded_pipelines_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in {"someone/pipeline": "model_index.json", "someone/tokenizer": "config.json"}.items():
        snapshot = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (snapshot / file).write_text("{}")
        refs = snapshot.parents[1] / "refs"
        refs.mkdir()
        (refs / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path))
    assert downloaded_models() == [ModelEntry("someone/pipeline", 2)]


def test_the_memory_of_this_machine_is_known() -> None:
    assert device_memory() > 10**8
