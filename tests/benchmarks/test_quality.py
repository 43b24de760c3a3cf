"""The quality benchmark: its design, the references of an edit, and its document."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import cells, quality, quality_document
from benchmarks.cells import Cell
from benchmarks.clips import BENCHMARK, KINDS, Case
from benchmarks.quality import PROPAGATIONS, design, measure
from benchmarks.quality_document import (
    AVERAGED,
    GOALS,
    MODES,
    Row,
    goals_table,
    means_table,
    of_interest,
    rows_table,
    write_document,
)
from benchmarks.truth import Truth

OBJECT, MATERIAL = (next(case for case in BENCHMARK if case.kind == kind) for kind in ("object", "material"))
FLOOR = {
    "perfect_psnr": 30.0,
    "warp_error_e3": 0.2,
    "warp_error_away_e3": 0.1,
    "detail": 1.0,
    "agreement": 1.0,
    "to_floor": 1.0,
}
REFERENCES = {"floor": {OBJECT.name: FLOOR}, "source": {OBJECT.name: {"perfect_psnr": 16.0, "agreement": 0.0}}}


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


def test_every_edit_by_tokenflow_is_also_made_per_frame() -> None:
    for quick in (False, True):
        planned = list(design(quick))
        for case, mode, propagation in planned:
            assert propagation == "per frame" or (case, mode, "per frame") in planned


def test_edits_and_their_references_are_measured_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = replace(OBJECT.truth.clip, frames=3)
    case = replace(OBJECT, truth=Truth(clip, clip.with_words(**dict(OBJECT.words))))
    perfect = (case.truth.perfect * 255).round().astype(np.uint8)
    grain = np.random.default_rng(0).normal(0, 1, perfect.shape)
    noise = {"none": 20, "flow": 10, "nearest": 15}

    def noisy(strength: float) -> np.ndarray:
        return np.clip(perfect + strength * grain, 0, 255).astype(np.uint8)

    def images(cell: Cell) -> np.ndarray:
        settings = dict(cell.settings)
        return noisy(noise[settings.get("correspondence", "none")])

    monkeypatch.setattr(Cell, "done", True)
    monkeypatch.setattr(Cell, "images", images)
    monkeypatch.setattr(Cell, "record", lambda _: {"seconds": {"preprocess": 9.0, "edit": 2.5}})
    monkeypatch.setattr(quality, "floor", lambda _: noisy(5))
    monkeypatch.setattr(cells, "classifier", lambda: None)
    rows, references = measure([(case, "pnp", propagation) for propagation in PROPAGATIONS])

    assert [row.propagation for row in rows] == ["per frame", AVERAGED, "flow", "nearest"]
    assert [row.figures.get("seconds") for row in rows] == [2.5, None, 2.5, 2.5]
    floor, source = (references[name][case.name] for name in ("floor", "source"))
    assert floor["to_floor"] == 1
    assert floor["warp_error_e3"] == case.truth.figures(noisy(5))["warp_error_e3"]
    assert source["perfect_psnr"] == case.truth.figures(case.truth.frames)["perfect_psnr"]
    assert source["preservation_psnr"] is None  # infinite, which JSON cannot hold
    for values, shown in (
        (rows[0].figures, noisy(20)),
        (rows[1].figures, case.truth.averaged(noisy(20))),
        (rows[2].figures, noisy(10)),
        (rows[3].figures, noisy(15)),
        (source, case.truth.frames),
    ):
        expected = case.truth.figures(shown)
        assert {key: values[key] for key in expected} == expected
        assert values["to_floor"] == expected["warp_error_e3"] / floor["warp_error_e3"]


def test_goals_are_judged_on_pairs() -> None:
    values = {"perfect_psnr": 20.0, "warp_error_e3": 1.0, "warp_error_away_e3": 1.0, "detail": 1.0, "agreement": 0.9}
    values["worst_crop"] = 0.3
    alone = row(propagation="per frame", **values, to_floor=5.0)
    values = {"perfect_psnr": 21.5, "warp_error_e3": 0.25, "warp_error_away_e3": 0.2, "detail": 0.95, "agreement": 0.9}
    values["worst_crop"] = 0.4
    better = row(**values, to_floor=1.25)
    found = [(better, alone)]
    assert [goal.word(found) for goal in GOALS] == [
        "0.25, reached",
        "1.25, reached",
        "0.20, reached",
        "0.00, reached",
        "1.50, reached",
        "0.95, reached",
        "0.10, reached",
        "0.90, reached",
    ]
    values = {"perfect_psnr": 20.5, "warp_error_e3": 0.6, "warp_error_away_e3": 0.6, "detail": 0.8, "agreement": 0.8}
    values["worst_crop"] = 0.2
    worse = row(**values, to_floor=3.0)
    assert all("missed" in goal.word([(worse, alone)]) for goal in GOALS)
    table = goals_table([alone, better])
    assert Counter(table.split())["reached"] == len(GOALS)
    assert table.count("not measured") == (len(MODES) - 1) * len(GOALS)


def test_missing_figures_are_dashes() -> None:
    rows = [row(propagation=each, perfect_psnr=20.0, warp_error_e3=1.0) for each in ("per frame", "flow")]
    table = means_table(rows, REFERENCES)
    assert "| pnp | flow | 1 | 20.00 | – |" in table
    assert "| pnp | *floor* | 1 | 30.00 | – |" in table
    assert "| pnp | *source* | 1 | 16.00 | – |" in table
    assert "not measured" in GOALS[3].word([(rows[1], rows[0])])


def test_references_follow_the_rows_of_every_edit() -> None:
    names = {case.name for case in (OBJECT, MATERIAL)}
    references = {reference: dict.fromkeys(names, FLOOR) for reference in ("floor", "source")}
    rows = [row(case, propagation=each) for case in (OBJECT, MATERIAL) for each in ("per frame", "flow")]
    lines = rows_table(rows, references).splitlines()[2:]
    assert [line.split(" | ")[2] for line in lines] == ["per frame", "flow", "*floor*", "*source*"] * 2
    assert [MATERIAL.edit in line for line in lines] == [False] * 4 + [True] * 4


def test_the_worst_edits_are_shown_the_worst_first() -> None:
    rows = []
    for case, crop in zip(BENCHMARK[:4], (0.5, 0.2, 0.9, 0.1), strict=True):
        rows += [row(case, propagation="per frame", worst_crop=0.0), row(case, worst_crop=crop)]
    shown = list(of_interest(rows))
    assert [found[0].case.name for found in shown] == [BENCHMARK[3].name, BENCHMARK[1].name]
    assert [each.propagation for each in shown[0]] == ["per frame", "flow"]


def test_the_document_has_its_images_and_keeps_its_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_document, "DOCUMENT", tmp_path / "quality.md")
    monkeypatch.setattr(quality_document, "RESULTS", tmp_path)
    monkeypatch.setattr(quality_document, "CLASSIFIER", Path("none"))
    monkeypatch.setattr(quality_document, "classifier", lambda: None)
    monkeypatch.setattr(Cell, "images", lambda self: self.case.truth.frames)
    monkeypatch.setattr(Truth, "averaged", lambda _, images: images)
    monkeypatch.setattr(Cell, "record", lambda _: {"seconds": {"preprocess": 30.0, "edit": 60.0}})
    rows = [row(propagation=each, perfect_psnr=20.0, worst_crop=0.5) for each in ("per frame", "flow")]
    rows.insert(1, replace(rows[0], propagation=AVERAGED))
    (tmp_path / "quality.md").write_text("old\n\n## Notes\n\nThe goal was missed, since.\n")
    write_document(rows, REFERENCES)
    text = (tmp_path / "quality.md").read_text()
    assert "old" not in text
    assert text.endswith("## Notes\n\nThe goal was missed, since.\n")
    assert "Agreement with the prompt is not measured: none is missing." in text
    words = " ".join(text.split())
    assert "1 by pnp, 0 by sdedit, 0 by controlnet, 0 by flowedit" in words
    assert "All edits together took 3 minutes" in words  # an averaged edit takes none
    written = json.loads((tmp_path / "quality.json").read_text())
    assert written["references"] == REFERENCES
    (image,) = tmp_path.glob("quality/*.jpg")
    assert f"]({image.relative_to(tmp_path)})" in text
    # Source, perfect edit and three rows, six frames of 128 pixels each.
    assert np.asarray(Image.open(image)).shape == (5 * (128 + 16), 6 * 128, 3)
    write_document(rows, REFERENCES)
    assert (tmp_path / "quality.md").read_text() == text
