"""Change and detail by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.correspondence.test_flow import texture
from tokenflow.metrics import Change, gradient_energy, mean_change
from tokenflow.metrics.change import largest_change

SOURCE = np.array([[[10, 20, 30], [100, 100, 100]]], np.uint8)
EDIT = np.array([[[13, 14, 30], [110, 100, 95]]], np.uint8)
LEFT, RIGHT = (3 + 6 + 0) / 3, (10 + 0 + 5) / 3


def over_time(*masks: np.ndarray | None) -> dict[str, list[float | None]]:
    change = Change()
    for mask in masks:
        change.add(SOURCE, EDIT, mask)
    return change.over_time["change"]


def test_change_is_split_into_inside_and_outside_of_a_mask() -> None:
    found = over_time(np.array([[1.0, 0.0]]))
    assert (found["whole"], found["inside"], found["outside"]) == ([(LEFT + RIGHT) / 2], [LEFT], [RIGHT])


def test_without_a_mask_only_the_whole_image_is_measured() -> None:
    assert set(over_time(None)) == {"whole", "most"}
    assert over_time(None)["whole"] == [(LEFT + RIGHT) / 2]


def test_the_most_changed_part_does_not_depend_on_how_much_of_the_image_it_covers() -> None:
    source = np.full((64, 128, 3), 100, np.uint8)
    small, large = source.copy(), source.copy()
    small[20:44, 50:74], large[:, 40:100] = 160, 160
    assert largest_change(source, small) == pytest.approx(60, abs=4)
    assert largest_change(source, large) == pytest.approx(60, abs=0.1)
    assert largest_change(source, source) == 0


def test_a_soft_mask_weights_both_sides() -> None:
    inside = (0.5 * LEFT + 1 * RIGHT) / 1.5
    assert over_time(np.array([[0.5, 1.0]]))["inside"] == pytest.approx([inside])
    assert over_time(np.array([[0.5, 1.0]]))["outside"] == pytest.approx([LEFT])


def test_an_empty_side_of_a_mask_has_no_value() -> None:
    assert over_time(np.ones((1, 2)), np.array([[1.0, 0.0]]))["outside"] == [None, RIGHT]
    assert over_time(np.zeros((1, 2)), np.array([[1.0, 0.0]]))["inside"] == [None, LEFT]


@given(st.floats(0.05, 0.95))
def test_the_whole_lies_between_inside_and_outside(share: float) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    mask = (rng.random((8, 8)) < share).astype(float)
    sides = [mean_change(first, second, each) for each in (mask, 1 - mask)]
    assert min(sides) <= mean_change(first, second, np.ones((8, 8))) <= max(sides)


def test_gradient_energy_by_hand() -> None:
    image = np.array([[0.0, 1.0], [0.5, 0.5]])[..., None]
    assert gradient_energy(image) == pytest.approx((0.5**2 + 0.5**2) / 2 + (1**2 + 0) / 2)


def test_gradient_energy_of_a_single_colour_is_0() -> None:
    assert gradient_energy(np.full((5, 6, 3), 0.3)) == 0


def test_gradient_energy_falls_with_blur_and_rises_with_noise() -> None:
    sharp = texture(64, 64) / 255
    soft = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1)) / 3
    noisy = sharp + np.random.default_rng(0).normal(0, 0.1, sharp.shape)
    assert gradient_energy(soft) < gradient_energy(sharp) < gradient_energy(noisy)


def test_gradient_energy_of_a_clip_is_the_mean_of_its_frames() -> None:
    clip = np.random.default_rng(0).random((3, 6, 7, 3))
    assert gradient_energy(clip) == pytest.approx(np.mean([gradient_energy(frame) for frame in clip]))
