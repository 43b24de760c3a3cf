"""Optical flow between any two frames."""

from pathlib import Path

import numpy as np
import pytest

from tests.propagation.pixels.conftest import SIDE, STEP, draw
from tokenflow.propagation.pixels.dense_flow import DenseFlow


@pytest.mark.parametrize(("frame", "keyframe"), [(0, 4), (4, 0), (1, 3)])
def test_flow_is_chained_in_both_directions(discs: np.ndarray, frame: int, keyframe: int, tmp_path: Path) -> None:
    flow, confidence = DenseFlow(discs, tmp_path).between(frame, keyframe)
    x = 30 + STEP * frame
    inside = np.s_[44:56, x - 6 : x + 7]
    # On the disc, away from its outline: dense flow of small images is good to about a pixel over four frames.
    np.testing.assert_allclose(flow[inside][..., 0], STEP * (keyframe - frame), atol=1.0)
    assert confidence[inside].min() > 0.5


def test_a_frame_lies_on_itself(discs: np.ndarray) -> None:
    flow, confidence = DenseFlow(discs).between(2, 2)
    assert flow.shape == (SIDE, SIDE, 2)
    assert not flow.any()
    assert confidence.min() == 1


def test_large_images_are_estimated_smaller_and_flow_is_in_their_own_pixels() -> None:
    frames = np.stack([np.kron(draw(frame, "disc", pan=2), np.ones((9, 9, 1), np.uint8)) for frame in range(2)])
    flow, _ = DenseFlow(frames).between(0, 1)
    assert flow.shape[:2] == frames.shape[1:3]
    np.testing.assert_allclose(np.median(flow[700:, :, 0]), -18, atol=1)
