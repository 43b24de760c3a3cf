"""Contact sheets: what they show and where."""

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
    MAX_COLUMNS,
    MAX_IMAGE_WIDTH,
    label_font,
)


def images(count: int, height: int = 20, width: int = 30) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_a_contact_sheet_has_a_row_of_images_under_each_label() -> None:
    rows = {"a dog": images(4), "a tiger": [255 - image for image in images(4)]}
    sheet = np.asarray(contact_sheet(rows))
    assert sheet.shape == (2 * (LABEL_HEIGHT + 20), 4 * 30, 3)
    for row, shown in enumerate(rows.values()):
        top = row * (LABEL_HEIGHT + 20) + LABEL_HEIGHT
        assert np.array_equal(sheet[top : top + 20], side_by_side(*shown))


def test_labels_are_drawn_in_their_strips() -> None:
    blank, written = (np.asarray(contact_sheet({"": images(4), label: images(4)})) for label in (" ", "a golden tiger"))
    strip = slice(LABEL_HEIGHT + 20, 2 * LABEL_HEIGHT + 20)
    assert np.all(blank[strip] == 255)
    assert (written[strip] < 128).any()
    assert np.array_equal(written[:LABEL_HEIGHT], blank[:LABEL_HEIGHT])


def test_accented_letters_are_drawn_if_a_font_has_them() -> None:
    font = label_font()
    if font.getname() == ImageFont.load_default(LABEL_SIZE).getname():
        pytest.skip(f"this system has none of {', '.join(LABEL_FONTS)}")
    assert len({bytes(font.getmask(letter)) for letter in "ñúя"}) == 3  # boxes would be equal


def test_labels_are_drawn_without_any_system_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "LABEL_FONTS", ("no such font.ttf",))
    assert (np.asarray(contact_sheet({"a tiger": images(4)}))[:LABEL_HEIGHT] < 128).any()


def test_a_label_may_be_in_any_script() -> None:
    assert contact_sheet({"собака – 犬": images(2)}).size == (60, 20 + LABEL_HEIGHT)


def test_large_images_are_scaled_down_in_proportion() -> None:
    large = [np.full((270, 480, 3), value, np.uint8) for value in (10, 200)]
    sheet = contact_sheet({"a": large})
    assert sheet.size == (2 * MAX_IMAGE_WIDTH, LABEL_HEIGHT + MAX_IMAGE_WIDTH * 270 // 480)
    shown = np.asarray(sheet)[LABEL_HEIGHT:]
    assert np.all(shown[:, :MAX_IMAGE_WIDTH] == 10)
    assert np.all(shown[:, MAX_IMAGE_WIDTH:] == 200)


def test_a_shorter_row_is_padded_with_white() -> None:
    sheet = np.asarray(contact_sheet({"a": images(3), "b": images(1)}))
    assert sheet.shape[1] == 90
    assert np.all(sheet[2 * LABEL_HEIGHT + 20 :, 30:] == 255)


def test_a_contact_sheet_can_be_saved_as_png(tmp_path: Path) -> None:
    contact_sheet({"a": images(2)}).save(tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").mode == "RGB"


@given(st.integers(1, 5000))
def test_a_sheets_frames_are_evenly_spread_from_the_first_to_the_last(count: int) -> None:
    frames = sheet_frames(count)
    assert len(frames) == min(count, MAX_COLUMNS)
    assert frames[0] == 0
    assert frames[-1] == (count - 1 if count > 1 else 0)
    gaps = np.diff(frames)
    assert np.all(gaps > 0)
    assert np.ptp(gaps) <= 1 if len(gaps) else True  # they differ by rounding only


def test_side_by_side_images_are_in_order() -> None:
    left, right = images(2)
    both = side_by_side(left, right)
    assert both.shape == (20, 60, 3)
    assert np.array_equal(both[:, :30], left)
    assert np.array_equal(both[:, 30:], right)
