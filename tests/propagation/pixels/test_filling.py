"""Filling places that have no value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenflow.propagation.pixels.filling import fill_smoothly


def test_known_values_stay_and_the_mean_of_a_constant_fills_the_rest() -> None:
    values = np.full((9, 13, 2), 7.0, np.float32)
    weights = np.zeros((9, 13), np.float32)
    weights[2:4, 5:8] = 1
    values[weights == 0] = -100
    np.testing.assert_allclose(fill_smoothly(values, weights), 7.0, rtol=1e-5)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**16))
def test_filled_values_lie_between_the_known_ones(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((height, width, 3)).astype(np.float32)
    weights = (rng.random((height, width)) < 0.4).astype(np.float32)
    weights.flat[0] = 1
    filled = fill_smoothly(values, weights)
    known = weights > 0
    assert filled.shape == values.shape
    # Float32 sums of up to 400 values.
    assert filled.min() >= values[known].min() - 1e-4
    assert filled.max() <= values[known].max() + 1e-4
    if min(height, width) > 2:
        np.testing.assert_array_equal(filled[known], values[known])


def test_nothing_known_is_zero() -> None:
    assert fill_smoothly(np.ones((8, 8, 1), np.float32), np.zeros((8, 8), np.float32)) == pytest.approx(0)
