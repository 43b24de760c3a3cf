"""An object's share of each pixel."""

import numpy as np

from tokenflow.propagation.pixels.matting import alpha_of, connected, fill_holes


def test_the_outline_is_mixed_in_proportion_to_its_colour() -> None:
    difference = np.zeros((20, 20), np.float32)
    difference[5:15, 5:15] = 100
    difference[5:15, 15] = 40  # a column of which the object has 40 %
    share = alpha_of(difference, np.ones((20, 20), bool))
    np.testing.assert_array_equal(share[7:13, 7:13], 1)
    np.testing.assert_allclose(share[7:13, 15], 0.4, atol=1e-6)
    assert share[:4].max() == 0


def test_nothing_outside_of_the_region_belongs_to_the_object() -> None:
    difference = np.full((20, 20), 100.0, np.float32)
    region = np.zeros((20, 20), bool)
    region[5:12, 5:12] = True
    share = alpha_of(difference, region)
    assert share[region].min() == 1
    assert share[:4].max() == 0


def test_holes_are_filled_and_bays_are_not() -> None:
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:6] = False
    assert fill_holes(ring)[4, 4]
    ring[3:6, 6:] = False  # now it is open to the right
    assert not fill_holes(ring)[4, 4]


def test_only_parts_that_touch_a_seed_are_kept() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1]], bool)
    seeds = np.array([[1, 0, 0, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(connected(mask, seeds), [[1, 1, 0, 0], [0, 0, 0, 0]])
