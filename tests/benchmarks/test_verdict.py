"""Verdicts beside labels: what the perfect edit says of an edit, and how often the verdict agrees."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import verdict
from benchmarks.clips import BENCHMARK, TUNING
from benchmarks.labelled_edits import CHOSEN, TESTED, LabelledEdit
from benchmarks.truth import Grainy, Truth
from benchmarks.verdict import BEGIN, END, Judged, label, section, summary, truth_figures, write_section
from tokenflow.metrics import Verdict

CASE = next(case for case in BENCHMARK if case.clip == "elephant_near")  # marble


def labelled(edited: np.ndarray, kind: str = "material") -> str:
    """The label of some frames, with nearly the perfect edit for what the autoencoder makes of it."""
    almost_perfect = np.clip(as_images(CASE.truth.perfect).astype(int) + 1, 0, 255).astype(np.uint8)
    return label(truth_figures(CASE.truth, edited, almost_perfect), kind)


def as_images(frames: np.ndarray) -> np.ndarray:
    return (frames * 255).round().astype(np.uint8)


def headless(frames: np.ndarray) -> np.ndarray:
    """Without the front third of the object, which faces left."""
    frames = frames.copy()
    for frame, mask in zip(frames, CASE.truth.target.masks(), strict=True):
        columns = np.flatnonzero((mask > 0.5).any(0))
        left = max(columns[0] - 3, 0)
        frame[:, left : columns[0] + round(0.4 * np.ptp(columns))] = frame[:, left][:, None]
    return frames


def test_the_perfect_edit_tells_how_an_edit_failed() -> None:
    perfect, source = as_images(CASE.truth.perfect), CASE.truth.frames
    assert labelled(perfect) == "good"
    assert labelled(source) == "hardly edited"
    assert labelled(np.stack([cv2.GaussianBlur(each, (0, 0), 3) for each in perfect])) == "flattened"
    assert labelled(headless(perfect)) in ("parts lost", "prompt not followed")
    golden = Truth(CASE.truth.clip, CASE.truth.clip.with_words(material="golden"))
    assert labelled(as_images(golden.perfect)) in ("prompt not followed", "hardly edited")


def test_grain_that_the_autoencoder_loses_is_told_from_all_else() -> None:
    grainy = Grainy(CASE.truth.clip, CASE.truth.target, 50.0)
    clean = as_images(CASE.truth.perfect)
    figures = truth_figures(grainy, clean, clean)
    assert figures["floor_psnr"] < 18
    assert label(figures, "material") == "clip not shown"


def test_thresholds_are_tested_on_other_clips_and_settings_than_they_were_chosen_on() -> None:
    chosen, tested = ({edit.cell.case.clip for edit in edits} for edits in (CHOSEN, TESTED))
    assert not chosen & tested
    assert min(len(CHOSEN), len(TESTED)) >= 20
    assert {case.clip for case in TUNING} <= chosen
    special = [{edit.cell.settings for edit in edits if len(edit.cell.settings) > 1} for edits in (CHOSEN, TESTED)]
    assert not special[0] & special[1]


def judged(label: str, name: str, edit: LabelledEdit = TESTED[0]) -> Judged:
    return Judged(edit, label, Verdict(name, "found", "change that"), {"progress": 1.0})  # type: ignore[arg-type]


ROWS = [
    judged("hardly edited", "hardly edited"),
    judged("parts lost", "prompt not followed"),
    judged("flattened", "good"),
    *[judged("good", "good")] * 3,
    judged("good", "flattened"),
]


def test_shares_are_of_failures_and_of_the_others() -> None:
    found = summary(ROWS)
    assert (found["edits"], found["failed"]) == (7, 3)
    assert found["named"] == pytest.approx(2 / 3)
    assert found["named_rightly"] == pytest.approx(1 / 3)
    assert found["false_alarms"] == pytest.approx(1 / 4)


def test_the_section_replaces_what_was_between_the_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "DOCUMENT", tmp_path / "metrics.md")
    (tmp_path / "metrics.md").write_text(f"before\n{BEGIN}old\n{END}after\n")
    text = section({"chosen on": ROWS, "tested on": ROWS[:4]})
    for _ in range(2):
        write_section(text)
        assert (tmp_path / "metrics.md").read_text() == f"before\n{BEGIN}\n{text}\n\n{END}after\n"
    assert "| chosen on | 7 | 3 | 67% | 33% | 25% |" in text
    assert text.count("flattened") == 1 + 1 + 1


def test_a_smeared_edit_is_blurred(monkeypatch: pytest.MonkeyPatch) -> None:
    smeared = next(edit for edit in TESTED if edit.smear)
    frames = CASE.truth.frames
    monkeypatch.setattr("benchmarks.cells.Cell.images", lambda _: frames)
    assert np.array_equal(LabelledEdit(smeared.cell).images(), frames)
    assert (
        np.abs(np.diff(smeared.images().astype(int), axis=2)).sum() < np.abs(np.diff(frames.astype(int), axis=2)).sum()
    )
