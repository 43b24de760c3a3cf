"""The benchmark: its design, that it resumes, and that its document says what was measured."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import cells, quality_document
from benchmarks.cells import Cell
from benchmarks.clips import BENCHMARK, KINDS, Case
from benchmarks.quality import PROPAGATIONS, design, make_missing
from benchmarks.quality_document import GOALS, MODES, Row, goals_table, means_table, of_interest, write_document
from tests.tiny import save_tiny_model
from tools.mini_sd.scene_classifier import SceneClassifier
from tools.mini_sd.words import KINDS as WORDS

OBJECT, MATERIAL = (next(case for case in BENCHMARK if case.kind == kind) for kind in ("object", "material"))
FLOOR = {
    "perfect_psnr": 30.0,
    "warp_error_e3": 0.2,
    "warp_error_away_e3": 0.1,
    "detail": 1.0,
    "agreement": 1.0,
    "to_floor": 1.0,
}


def row(case: Case = OBJECT, mode: str = "pnp", propagation: str = "flow", **figures: float | None) -> Row:
    cell = Cell(case, (("mode", mode), *PROPAGATIONS[propagation]))
    return Row(case, mode, propagation, cell, figures)


def test_every_mode_does_every_kind_of_edit_per_frame_and_by_tokenflow() -> None:
    planned = list(design())
    assert len(set(planned)) == len(planned)
    for mode in MODES:
        for propagation in ("per frame", "flow"):
            assert {case.kind for case, *rest in planned if rest == [mode, propagation]} == set(KINDS)
        assert any(rest == [mode, "nearest"] for _, *rest in planned)
    assert {case.name for case, mode, _ in planned if mode == "pnp"} == {case.name for case in BENCHMARK}


def test_every_edit_by_tokenflow_has_one_per_frame_beside_it() -> None:
    for quick in (False, True):
        planned = list(design(quick))
        for case, mode, propagation in planned:
            assert propagation == "per frame" or (case, mode, "per frame") in planned


def test_a_cell_is_made_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "KEPT", tmp_path / "cells")
    monkeypatch.setattr(cells, "DIFFUSION", save_tiny_model(tmp_path / "model"))
    cells.diffusion.cache_clear()
    cell = Cell(OBJECT, (("mode", "sdedit"), ("steps", 1), ("sdedit.strength", 0.5)))
    assert not cell.done
    make_missing([cell])
    assert cell.pictures().shape == OBJECT.truth.frames.shape
    assert cell.record()["settings"] == dict(cell.settings)
    assert sorted(path.suffix for path in (tmp_path / "cells").iterdir() if path.is_file()) == [".json", ".png"]
    monkeypatch.setattr(Cell, "make", lambda _: pytest.fail("it was made again"))
    make_missing([Cell(OBJECT, cell.settings)])
    assert not Cell(OBJECT, (("mode", "sdedit"), ("steps", 1), ("sdedit.strength", 0.6))).done
    assert not Cell(MATERIAL, cell.settings).done
    cells.diffusion.cache_clear()


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


def test_goals_are_judged_on_pairs() -> None:
    values = {"perfect_psnr": 20.0, "warp_error_e3": 1.0, "warp_error_away_e3": 1.0, "detail": 1.0, "agreement": 0.9}
    alone = row(propagation="per frame", **values, to_floor=5.0)
    values = {"perfect_psnr": 21.5, "warp_error_e3": 0.25, "warp_error_away_e3": 0.2, "detail": 0.95, "agreement": 0.9}
    better = row(**values, to_floor=1.25)
    found = [(better, alone)]
    assert [goal.word(found) for goal in GOALS] == [
        "0.25, reached",
        "1.25, reached",
        "0.20, reached",
        "0.00, reached",
        "1.50, reached",
        "0.95, reached",
        "0.90, reached",
    ]
    values = {"perfect_psnr": 20.5, "warp_error_e3": 0.6, "warp_error_away_e3": 0.6, "detail": 0.8, "agreement": 0.8}
    worse = row(**values, to_floor=3.0)
    assert all("missed" in goal.word([(worse, alone)]) for goal in GOALS)
    table = goals_table([alone, better])
    assert Counter(table.split())["reached"] == len(GOALS)
    assert table.count("not measured") == 2 * len(GOALS)


def test_what_was_not_measured_is_a_dash_and_said() -> None:
    rows = [row(propagation=each, perfect_psnr=20.0, warp_error_e3=1.0) for each in ("per frame", "flow")]
    table = means_table(rows, {OBJECT.name: FLOOR})
    assert "| pnp | flow | 1 | 20.00 | – |" in table
    assert "not measured" in GOALS[3].word([(rows[1], rows[0])])


def test_the_rows_of_interest_are_the_largest_and_the_smallest_gain() -> None:
    rows = []
    for gain, case in enumerate(BENCHMARK[:4]):
        rows += [row(case, propagation="per frame", perfect_psnr=20.0), row(case, perfect_psnr=20.0 + gain)]
    shown = [found[0].case.name for found in of_interest(rows)]
    assert shown == [BENCHMARK[3].name, BENCHMARK[0].name]


def test_the_document_has_its_pictures_and_keeps_its_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_document, "DOCUMENT", tmp_path / "quality.md")
    monkeypatch.setattr(quality_document, "RESULTS", tmp_path)
    monkeypatch.setattr(quality_document, "CLASSIFIER", Path("none"))
    monkeypatch.setattr(quality_document, "classifier", lambda: None)
    monkeypatch.setattr(Cell, "pictures", lambda self: self.case.truth.frames)
    monkeypatch.setattr(Cell, "record", lambda _: {})
    rows = [row(propagation=each, perfect_psnr=20.0, warp_error_e3=1.0) for each in ("per frame", "flow")]
    (tmp_path / "quality.md").write_text("old\n\n## Notes\n\nThe goal was missed, since.\n")
    write_document(rows, {OBJECT.name: FLOOR})
    text = (tmp_path / "quality.md").read_text()
    assert "old" not in text
    assert text.endswith("## Notes\n\nThe goal was missed, since.\n")
    assert "Agreement with the prompt is not measured: none is missing." in text
    (picture,) = tmp_path.glob("quality/*.jpg")
    assert f"]({picture.relative_to(tmp_path)})" in text
    # Source, perfect edit and two rows, six frames of 128 pixels each.
    assert np.asarray(Image.open(picture)).shape == (4 * (128 + 16), 6 * 128, 3)
    write_document(rows, {OBJECT.name: FLOOR})
    assert (tmp_path / "quality.md").read_text() == text
