"""Object and background as layers."""

import numpy as np
import pytest

from tests.propagation.pixels.conftest import BACKGROUND, FRAMES, SIDE, STEP, draw
from tokenflow.propagation.pixels.layers import Layers


def region() -> np.ndarray:
    """Where the disc is in the first frame, and a little more."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[34:67, 14:47] = True
    return mask


@pytest.fixture(scope="module", params=[0, -2], ids=["still camera", "pan"])
def panned(request: pytest.FixtureRequest) -> tuple[int, Layers]:
    pan = request.param
    frames = np.stack([draw(frame, "disc", pan=abs(pan)) for frame in range(FRAMES)])
    return pan, Layers(frames, {0: region()})


def test_both_motions_are_found(panned: tuple[int, Layers]) -> None:
    pan, layers = panned
    np.testing.assert_allclose(layers.background_flow(0, 4)[..., 0], 4 * pan, atol=0.2)
    inside = layers.object_flow(0, 4)[40:60, 20:40]
    np.testing.assert_allclose(inside[..., 0], 4 * STEP, atol=0.3)
    np.testing.assert_allclose(inside[..., 1], 0, atol=0.3)


def test_the_background_comes_from_frames_that_show_it(panned: tuple[int, Layers]) -> None:
    pan, layers = panned
    background, known = layers.background(4)
    true = BACKGROUND[32 : 32 + SIDE, 4 * abs(pan) : 4 * abs(pan) + SIDE]
    right = np.s_[45:55, 53:57]  # where the disc is in the last frame but not in the first
    assert known[right].all()
    np.testing.assert_allclose(background[right], true[right], atol=6)  # of 255, after an interpolation


def test_the_mask_is_the_disc(panned: tuple[int, Layers]) -> None:
    _, layers = panned
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = (columns - 30 - 2 * STEP) ** 2 + (rows - 50) ** 2 <= 14**2
    mask = layers.object_mask(2) > 0.5
    assert (mask & disc).sum() / (mask | disc).sum() > 0.9


def test_frames_before_the_given_one_have_a_region_too(discs: np.ndarray) -> None:
    shifted = np.roll(region(), 4 * STEP, axis=1)
    layers = Layers(discs, {4: shifted})
    assert layers.region(0)[40:60, 20:40].all()
