"""A part is painted on a frame of the clip, and kept as the mask of that frame."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.apps.web.conftest import FRAMES
from tokenflow.apps.web.form import to_clip
from tokenflow.apps.web.painted import (
    COLOUR,
    as_layer,
    dim,
    frame_image,
    frame_number,
    keep_painted,
    same_frame,
    what_was_painted,
)
from tokenflow.apps.web.space import Space
from tokenflow.errors import ConfigError
from tokenflow.video import Video


def painted(alpha: int = 153) -> Image.Image:
    layer = Image.new("RGBA", (24, 16))
    ImageDraw.Draw(layer).rectangle((4, 2, 11, 9), (*COLOUR, alpha))
    return layer


def test_the_frame_is_one_of_the_part_of_the_clip(values: dict[str, str], clip: str) -> None:
    part = to_clip(values | {"clip.every": "2"}, clip)
    assert np.array_equal(np.asarray(frame_image(part, 1)), Video.read(clip, every=2).frames[1])
    with pytest.raises(ConfigError, match=f"frame {FRAMES}: the clip has {FRAMES // 2} frames"):
        frame_image(part, FRAMES)


@pytest.mark.parametrize(
    ("part", "number"),
    [({}, 2), ({"clip.every": "2"}, 1), ({"clip.start": "0.15"}, 0), ({"clip.frames": "2"}, None)],
)
def test_a_frame_has_another_number_in_another_part(
    part: dict[str, str], number: int | None, values: dict[str, str], clip: str
) -> None:
    whole = to_clip(values, clip)
    other = to_clip(values | part, clip)
    assert same_frame(2, whole, other) == number
    if number is not None:
        assert np.array_equal(np.asarray(frame_image(whole, 2)), np.asarray(frame_image(other, number)))
        assert same_frame(number, other, whole) == 2


def test_a_frame_of_another_clip_is_another_frame(values: dict[str, str], clip: str) -> None:
    assert same_frame(0, to_clip(values, "another.mp4"), to_clip(values, clip)) is None


@pytest.mark.parametrize(("text", "number"), [("", 0), (" 12 ", 12)])
def test_a_frame_is_chosen_by_number(text: str, number: int) -> None:
    assert frame_number(text) == number


@pytest.mark.parametrize("text", ["0,3", "first"])
def test_another_text_is_no_number_of_a_frame(text: str) -> None:
    with pytest.raises(ConfigError, match="frame"):
        frame_number(text)


def test_what_is_painted_is_kept_as_a_mask_and_can_be_painted_on(space: Space) -> None:
    text = keep_painted([painted(), Image.new("RGBA", (24, 16))], 3, space)
    held = what_was_painted(text)
    assert held is not None
    mask, number = held
    assert (mask.parent, number) == (space.uploads, 3)
    expected = np.zeros((16, 24), np.uint8)
    expected[2:10, 4:12] = 255
    assert np.array_equal(np.asarray(Image.open(mask)), expected)
    again = as_layer(mask, (24, 16))
    assert keep_painted([again], 3, space) == text


@pytest.mark.parametrize("layers", [[], [painted(0)], [painted(40)]])
def test_nothing_painted_is_no_mask(layers: list[Image.Image], space: Space) -> None:
    assert keep_painted(layers, 0, space) == ""
    assert not space.uploads.exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "{mask: a.png}", "{mask: a.png, mask_frame: x}"])
def test_a_text_that_holds_no_mask_is_not_drawn(text: str) -> None:
    assert what_was_painted(text) is None


def test_a_frame_is_dimmed_outside_of_the_region(tmp_path: Path) -> None:
    frame = np.full((2, 2, 3), 200, np.uint8)
    shown = dim(frame, np.array([[255, 0], [0, 255]], np.uint8))
    assert shown[0, 0].tolist() == shown[1, 1].tolist() == [200] * 3
    assert shown[0, 1].max() < 100
