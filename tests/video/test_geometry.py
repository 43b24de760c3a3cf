import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenflow.video import fit_area, fit_size, resize, restore

MODES = ("fit", "fill", "pad")


def slope(width, height):
    """A smooth gradient, in which a shift of one pixel is detectable."""
    across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    return np.stack([across, down, (across + down) / 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("clip", "size", "multiple", "expected"),
    [
        ((1920, 1080), 512, 64, (896, 512)),
        ((1080, 1920), 512, 64, (512, 896)),
        ((512, 512), None, 64, (512, 512)),
        ((500, 300), None, 8, (504, 304)),
        ((640, 480), (320, 320), 8, (320, 240)),
        ((480, 640), (320, 320), 8, (240, 320)),
        ((1, 1), None, 64, (64, 64)),
        ((4000, 10), 64, 64, (25600, 64)),
        ((128, 128), 100, 64, (128, 128)),
    ],
)
def test_sizes(clip, size, multiple, expected):
    assert fit_size(*clip, size, multiple) == expected


@pytest.mark.parametrize("arguments", [(0, 5, None, 8), (5, 5, 0, 8), (5, 5, (8, -1), 8), (5, 5, None, 0)])
def test_invalid_sizes(arguments):
    with pytest.raises(ValueError, match="expected sizes above 0"):
        fit_size(*arguments)


@pytest.mark.parametrize(
    ("clip", "side", "expected"),
    [
        ((1920, 1080), 1024, (1344, 768)),
        ((1080, 1920), 1024, (768, 1344)),
        ((1920, 1080), 512, (704, 384)),
        ((720, 720), 512, (512, 512)),
        ((5000, 20), 512, (8064, 64)),
    ],
)
def test_a_clip_gets_about_the_area_of_a_square(clip: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert fit_area(*clip, side, 64) == expected


@given(st.integers(200, 5000), st.integers(200, 5000), st.integers(64, 1024))
def test_the_area_is_that_of_the_square_but_for_rounding(width: int, height: int, side: int) -> None:
    fitted = fit_area(width, height, side, 8)
    exact = [length * side / (width * height) ** 0.5 for length in (width, height)]
    assert all(abs(got - wanted) <= 4 or got == 8 for got, wanted in zip(fitted, exact, strict=True))


@given(
    st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([None, 64, 512, (640, 480)]), st.sampled_from([8, 64])
)
def test_any_size_becomes_one_that_a_model_accepts(width, height, size, multiple):
    fitted = fit_size(width, height, size, multiple)
    assert all(side > 0 and side % multiple == 0 for side in fitted)
    assert (fitted[0] >= fitted[1]) == (width >= height) or fitted[0] == fitted[1]


@settings(max_examples=60)
@given(*[st.integers(1, 60)] * 4, st.sampled_from(MODES))
def test_restore_returns_the_size_of_the_source(width, height, to_width, to_height, mode):
    image = slope(width, height)
    there = resize(image, to_width, to_height, mode)
    assert (there.shape, there.dtype) == ((to_height, to_width, 3), np.dtype(np.uint8))
    back = restore(there, width, height, mode)
    if mode == "fill":
        assert back.shape[0] <= height
        assert back.shape[1] <= width
    else:
        assert back.shape == image.shape


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(96, 64), (64, 96), (80, 80), (333, 111)])
def test_restore_puts_pixels_back_in_place(mode, size):
    image = slope(120, 80)
    back = restore(resize(image, *size, mode), 120, 80, mode).astype(int)
    top, left = (80 - back.shape[0]) // 2, (120 - back.shape[1]) // 2
    kept = image[top : top + back.shape[0], left : left + back.shape[1]]
    assert np.abs(back - kept).mean() < 2


@pytest.mark.parametrize("mode", MODES)
def test_the_same_size_changes_nothing(mode):
    image = slope(40, 30)
    np.testing.assert_array_equal(resize(image, 40, 30, mode), image)
    np.testing.assert_array_equal(restore(image, 40, 30, mode), image)


def test_shrinking_averages():
    stripes = np.zeros((16, 16, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(resize(stripes, 8, 8), np.full((8, 8, 3), 100, dtype=np.uint8))


def test_pad_repeats_edges_and_fill_crops_both_sides():
    image = slope(40, 20)
    padded = resize(image, 40, 40, "pad")
    np.testing.assert_array_equal(padded[10:30], image)
    np.testing.assert_array_equal(padded[0], image[0])
    np.testing.assert_array_equal(padded[39], image[19])
    np.testing.assert_array_equal(resize(image, 20, 20, "fill"), image[:, 10:30])
