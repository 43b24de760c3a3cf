import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tokenflow import report
from tokenflow.report import (
    LABEL_HEIGHT,
    SHEET_COLUMNS,
    SHEET_PICTURE,
    Stopwatch,
    contact_sheet,
    sheet_frames,
    side_by_side,
    versions,
    write_json,
)


def pictures(count: int, height: int = 20, width: int = 30) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_a_contact_sheet_has_a_row_of_pictures_under_each_label() -> None:
    rows = {"a dog": pictures(4), "a tiger": [255 - picture for picture in pictures(4)]}
    sheet = np.asarray(contact_sheet(rows))
    assert sheet.shape == (2 * (LABEL_HEIGHT + 20), 4 * 30, 3)
    for row, shown in enumerate(rows.values()):
        top = row * (LABEL_HEIGHT + 20) + LABEL_HEIGHT
        assert np.array_equal(sheet[top : top + 20], side_by_side(*shown))


def test_labels_are_written_in_their_strips() -> None:
    blank, written = (
        np.asarray(contact_sheet({"": pictures(4), label: pictures(4)})) for label in (" ", "a golden tiger")
    )
    strip = slice(LABEL_HEIGHT + 20, 2 * LABEL_HEIGHT + 20)
    assert np.all(blank[strip] == 255)
    assert (written[strip] < 128).any()
    assert np.array_equal(written[:LABEL_HEIGHT], blank[:LABEL_HEIGHT])


def test_a_label_in_another_script_is_no_reason_to_fail() -> None:
    assert contact_sheet({"собака – 犬": pictures(2)}).size == (60, 20 + LABEL_HEIGHT)


def test_large_pictures_are_shrunk_to_the_sheets_width_and_keep_their_aspect() -> None:
    large = [np.full((270, 480, 3), value, np.uint8) for value in (10, 200)]
    sheet = contact_sheet({"a": large})
    assert sheet.size == (2 * SHEET_PICTURE, LABEL_HEIGHT + SHEET_PICTURE * 270 // 480)
    shown = np.asarray(sheet)[LABEL_HEIGHT:]
    assert np.all(shown[:, :SHEET_PICTURE] == 10)
    assert np.all(shown[:, SHEET_PICTURE:] == 200)


def test_a_row_that_is_shorter_than_another_leaves_white() -> None:
    sheet = np.asarray(contact_sheet({"a": pictures(3), "b": pictures(1)}))
    assert sheet.shape[1] == 90
    assert np.all(sheet[2 * LABEL_HEIGHT + 20 :, 30:] == 255)


def test_a_contact_sheet_is_a_png_that_others_read(tmp_path: Path) -> None:
    contact_sheet({"a": pictures(2)}).save(tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").mode == "RGB"


@given(st.integers(1, 5000))
def test_a_sheets_frames_are_evenly_spread_from_the_first_to_the_last(count: int) -> None:
    frames = sheet_frames(count)
    assert len(frames) == min(count, SHEET_COLUMNS)
    assert frames[0] == 0
    assert frames[-1] == (count - 1 if count > 1 else 0)
    gaps = np.diff(frames)
    assert np.all(gaps > 0)
    assert np.ptp(gaps) <= 1 if len(gaps) else True  # they differ by rounding alone


def test_side_by_side_pictures_are_in_order() -> None:
    left, right = pictures(2)
    both = side_by_side(left, right)
    assert both.shape == (20, 60, 3)
    assert np.array_equal(both[:, :30], left)
    assert np.array_equal(both[:, 30:], right)


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the stopwatch reads, in seconds; to be set by the test."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_stopwatch_sums_each_stages_seconds(clock: list[float]) -> None:
    watch = Stopwatch()
    for name, seconds in (("read", 1.25), ("edit", 10.0), ("read", 0.5)):
        with watch.stage(name):
            clock[0] += seconds
        clock[0] += 100  # between the stages
    assert watch.figures()["seconds"] == {"read": 1.75, "edit": 10.0}


def test_a_stage_that_fails_is_timed_too(clock: list[float]) -> None:
    watch = Stopwatch()

    def work() -> None:
        with watch.stage("edit"):
            clock[0] += 3
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        work()
    assert watch.figures()["seconds"] == {"edit": 3.0}


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak a second time there")
def test_peak_memory_is_in_mebibytes() -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    peak = float(status["VmHWM"].removesuffix("kB")) / 2**10
    # Measured later, so not less; and more where the process that started this one had been larger.
    assert report.peak_memory_mb() > 0.99 * peak
    assert report.peak_memory_mb() < 2**20
    assert Stopwatch().figures()["peak_memory_mb"] >= round(0.99 * peak)


def test_figures_and_versions_are_json() -> None:
    content = {**Stopwatch().figures(), **versions()}
    assert json.loads(json.dumps(content)) == content
    assert {"python", "tokenflow", "torch", "diffusers"} <= set(versions())
