"""The moving picture: columns side by side, rows below each other, written within its limit."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tokenflow
from tools import moving_picture
from tools.moving_picture import (
    CLIPS,
    EDITS,
    GAP,
    LABEL_HEIGHT,
    PER_FRAME,
    SOURCE,
    TARGET,
    TOKENFLOW,
    Row,
    compose,
    durations,
    write_animation,
)


def row(shade: int, frames: int = 3) -> Row:
    """Columns of single greys, lighter from column to column and from frame to frame."""
    images = np.stack([np.full((16, 24, 3), shade + 20 * index, np.uint8) for index in range(frames)])
    return {SOURCE: images, PER_FRAME: images + 50, TOKENFLOW: images + 100}


def test_columns_lie_side_by_side_and_rows_below_each_other() -> None:
    picture = np.asarray(compose([row(10), row(70)], 2, scale=2))
    assert picture.shape == (LABEL_HEIGHT + 2 * 32 + GAP, 3 * 48 + 2 * GAP, 3)
    shades = [
        [picture[LABEL_HEIGHT + 16 + line * (32 + GAP), 24 + column * (48 + GAP), 0] for column in range(3)]
        for line in range(2)
    ]
    assert shades == [[50, 100, 150], [110, 160, 210]]


def test_a_frame_is_shown_as_long_as_in_the_clip() -> None:
    clip = tokenflow.Video(row(0)[SOURCE], times=[Fraction(0), Fraction(1, 12), Fraction(1, 4)], end=Fraction(1, 3))
    assert durations(clip) == [83, 167, 83]


def test_durations_add_up_to_the_clips_length() -> None:
    clip = tokenflow.Video(row(0, frames=7)[SOURCE], rate=12)
    assert sum(durations(clip)) == round(7000 / 12)


def test_the_animation_has_every_frame_and_repeats(tmp_path: Path) -> None:
    path = tmp_path / "animation.webp"
    write_animation([compose([row(10)], index) for index in range(3)], [80, 160, 80], path)
    with Image.open(path) as animation:
        assert (animation.n_frames, animation.info["loop"]) == (3, 0)


def test_quality_falls_until_the_animation_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    frames, best, smaller = [Image.fromarray(image) for image in noise], tmp_path / "best", tmp_path / "smaller"
    write_animation(frames, [80, 80], best.with_suffix(".webp"))
    monkeypatch.setattr(moving_picture, "MAX_BYTES", best.with_suffix(".webp").stat().st_size - 1)
    write_animation(frames, [80, 80], smaller.with_suffix(".webp"))
    assert smaller.with_suffix(".webp").stat().st_size < best.with_suffix(".webp").stat().st_size
    monkeypatch.setattr(moving_picture, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100"):
        write_animation(frames, [80, 80], smaller.with_suffix(".webp"))


def test_the_shipped_picture_shows_every_frame_of_the_clips_within_its_limit() -> None:
    assert TARGET.stat().st_size <= moving_picture.MAX_BYTES
    lengths = {len(tokenflow.Video.read(CLIPS / name)) for name in EDITS}
    with Image.open(TARGET) as animation:
        assert {animation.n_frames} == lengths
