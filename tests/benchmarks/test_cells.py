"""Cells: made once, named after everything they depend on, and measured against a floor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tokenflow
from benchmarks import cells
from benchmarks.cells import BATCH, Cell
from benchmarks.clips import BENCHMARK, KINDS, Case
from benchmarks.quality import PROPAGATIONS, make_missing
from benchmarks.truth import Truth
from tests.tiny import save_tiny_model
from tokenflow.metrics.scene_classifier import SceneClassifier
from tools.mini_sd.words import KINDS as WORDS

OBJECT, MATERIAL = (next(case for case in BENCHMARK if case.kind == kind) for kind in KINDS[:2])
PNP, CONTROLNET = (("mode", "pnp"),), (("mode", "controlnet"),)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for cells of its own."""
    monkeypatch.setattr(cells, "KEPT", tmp_path / "cells")
    return tmp_path / "cells"


def test_a_cell_is_made_once_and_again_after_a_change(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "DIFFUSION", save_tiny_model(tmp_path / "model"))
    cells.diffusion.cache_clear()
    cell = Cell(OBJECT, (("mode", "sdedit"), ("steps", 1), ("sdedit.strength", 0.5)))
    assert not cell.done
    make_missing([cell])
    assert cell.images().shape == OBJECT.truth.frames.shape
    assert set(cell.record()) == {"clip", "edit", "settings", "seconds", "stage_peak_memory_mb"}
    assert cell.record()["settings"] == dict(cell.settings)
    assert sorted(path.suffix for path in kept.iterdir() if path.is_file()) == [".json", ".png"]
    monkeypatch.setattr(Cell, "make", lambda _: pytest.fail("it was made again"))
    make_missing([Cell(OBJECT, cell.settings)])
    assert not Cell(OBJECT, (("mode", "sdedit"), ("steps", 1), ("sdedit.strength", 0.6))).done
    assert not Cell(MATERIAL, cell.settings).done
    cells.diffusion.cache_clear()


def test_a_cell_is_named_after_frames_prompts_models_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Cell(OBJECT, PNP).path
    assert Cell(OBJECT, PNP).path == before

    painted = Truth(OBJECT.truth.clip, OBJECT.truth.target)
    painted.__dict__["frames"] = OBJECT.truth.frames ^ np.uint8(1)  # the same clip, drawn by another renderer
    assert Cell(replace(OBJECT, truth=painted), PNP).path != before
    asked = Truth(OBJECT.truth.clip, OBJECT.truth.target.with_words(material="golden"))
    assert Cell(replace(OBJECT, truth=asked), PNP).path != before
    for name, other in (("_made_by", lambda: "other"), ("path_fingerprint", lambda _: "other")):
        with monkeypatch.context() as changed:
            changed.setattr(cells, name, other)
            assert Cell(OBJECT, PNP).path != before


def test_only_cells_with_a_controlnet_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [Cell(OBJECT, settings).path for settings in (PNP, CONTROLNET)]
    monkeypatch.setattr(cells, "CONTROLNET", Path("another"))
    after = [Cell(OBJECT, settings).path for settings in (PNP, CONTROLNET)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_all_cells_depend_on_code_that_makes_pixels_on_precision_and_on_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenflow, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "metrics").mkdir()

    def made_by() -> str:
        cells._made_by.cache_clear()
        return cells._made_by()

    seen = {made_by()}
    for change in (
        lambda: (tmp_path / "sampling.py").write_text("1"),
        lambda: (tmp_path / "sampling.py").write_text("2"),
        lambda: (tmp_path / "sampling.py").rename(tmp_path / "inversion.py"),
        lambda: monkeypatch.setattr(cells, "DTYPE", "bfloat16"),
        lambda: monkeypatch.setattr(cells, "BATCH", BATCH + 1),
        lambda: monkeypatch.setattr(cells, "versions", lambda: {"torch": "0"}),
        lambda: monkeypatch.setattr(cells, "Cell", Case),
    ):
        before = len(seen)
        change()
        seen.add(made_by())
        assert len(seen) == before + 1
    (tmp_path / "metrics" / "detail.py").write_text("1")
    assert made_by() in seen
    cells._made_by.cache_clear()


def test_a_clip_that_is_drawn_differently_gets_a_new_video(kept: Path) -> None:
    before = cells._source(OBJECT)
    assert before.is_relative_to(kept)
    assert cells._source(OBJECT) == before
    truth = Truth(OBJECT.truth.clip, OBJECT.truth.target)
    truth.__dict__["frames"] = OBJECT.truth.frames ^ np.uint8(1)
    after = cells._source(replace(OBJECT, truth=truth))
    assert after.read_bytes() != before.read_bytes()


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_an_edit_uses_the_propagation_of_its_name(kept: Path, propagation: str) -> None:
    config = Cell(OBJECT, (*PNP, *PROPAGATIONS[propagation]))._config(kept / "out")
    assert config.edit.prompt == OBJECT.truth.prompts[1]
    if propagation == "per frame":
        assert config.edit.propagation == "none"
    else:
        assert (config.edit.propagation, config.edit.correspondence) == ("tokenflow", propagation)


def test_the_floor_is_the_perfect_edit_encoded_and_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Autoencoder:
        def encode(self, frames: torch.Tensor) -> torch.Tensor:
            assert len(frames) <= BATCH
            return frames / 2

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return 1 - latents

    monkeypatch.setattr(cells, "diffusion", Autoencoder)
    # Half of the rounding error before, and that after: 3/4 of a grey level.
    assert np.abs(cells.floor(OBJECT) / 255 - (1 - OBJECT.truth.perfect / 2)).max() <= 0.751 / 255


def test_agreement_counts_frames_in_which_every_changed_word_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SceneClassifier(WORDS).eval()
    wanted = OBJECT.truth.target.start.words
    for kind, head in network.heads.items():
        head.weight.data.zero_()
        head.bias.data.zero_()
        head.bias.data[list(WORDS[kind]).index(getattr(wanted, kind))] = 1
    monkeypatch.setattr(cells, "classifier", lambda: network)
    assert cells.agreement(OBJECT.truth, OBJECT.truth.frames) == {"agreement": 1.0, "agreement_kept": 1.0}
    network.heads["object"].bias.data[0] = 2  # another object in all frames
    assert cells.agreement(OBJECT.truth, OBJECT.truth.frames) == {"agreement": 0.0, "agreement_kept": 1.0}
