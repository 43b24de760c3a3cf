import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenflow.regions.masks import cover, feather, grow, paste


def square(side: int = 4, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    start = (size - side) // 2
    mask[start : start + side, start : start + side] = 1
    return mask


def test_growing_reaches_further_by_as_many_pixels_and_shrinking_less_far() -> None:
    mask = square()
    assert (grow(mask, 3).any(0).sum(), grow(mask, -1).any(0).sum()) == (4 + 2 * 3, 4 - 2)
    assert grow(mask, 1).sum() == 16 + 4 * 4  # a disc adds no corners
    assert grow(mask, 0) is mask


def test_a_feather_falls_evenly_outside_and_leaves_the_inside_whole() -> None:
    row = feather(square(), 3)[10]
    np.testing.assert_allclose(row[8:12], 1)
    np.testing.assert_allclose(row[12:16], [0.75, 0.5, 0.25, 0], atol=1e-6)
    assert not row[16:].any()


def test_an_empty_mask_stays_empty() -> None:
    assert not feather(np.zeros((4, 4), np.float32), 5).any()
    assert not grow(np.zeros((4, 4), np.float32), 5).any()


def test_every_latent_that_a_mask_touches_is_covered() -> None:
    mask = np.zeros((8, 8), np.float32)
    mask[3, 3] = 0.01  # in the first of 2 × 2 latents
    assert torch.equal(cover(mask, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_pasting_gives_the_sources_bytes_outside_and_the_edits_inside(edited: int, source: int, alpha: int) -> None:
    images = [np.full((1, 1, 3), value, np.uint8) for value in (edited, source)]
    pixel = paste(*images, np.full((1, 1), alpha, np.uint8))[0, 0, 0]
    assert min(edited, source) <= pixel <= max(edited, source)
    if alpha in (0, 255):
        assert pixel == (edited if alpha else source)


def test_pasting_half_of_each_gives_their_mean() -> None:
    image = paste(np.full((1, 1, 3), 200, np.uint8), np.full((1, 1, 3), 100, np.uint8), np.full((1, 1), 128, np.uint8))
    assert image[0, 0, 0] == pytest.approx(150, abs=1)  # 128 is a little more than half of 255
