"""Contact sheets: what is on them and where."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from tokenflow.report import contact_sheet, sheet, sheet_frames, side_by_side
from tokenflow.report.sheet import (
    LABEL_FONTS,
    LABEL_HEIGHT,
    LABEL_SIZE,
    SHEET_COLUMNS,
    SHEET_PICTURE,
    label_font,
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


def test_accents_are_letters_where_the_system_has_a_font_for_them() -> None:
    font = label_font()
    if font.getname() == ImageFont.load_default(LABEL_SIZE).getname():
        pytest.skip(f"this system has none of {', '.join(LABEL_FONTS)}")
    assert len({bytes(font.getmask(letter)) for letter in "ñúя"}) == 3  # boxes would be alike


def test_labels_are_written_on_a_system_without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "LABEL_FONTS", ("no such font.ttf",))
    assert (np.asarray(contact_sheet({"a tiger": pictures(4)}))[:LABEL_HEIGHT] < 128).any()


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
