"""Levers change one thing: what is carried still adds up, and exact flow is the drawing's own."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.clips import TUNING
from benchmarks.levers import ExactFlow, bilinear, from_the_nearest_keyframe_alone, nearest_token, sampled
from tokenflow import propagation
from tokenflow.correspondence.base import Map, identity

CPU = torch.device("cpu")
GRID = 4, 5


class Known:
    """Places between tokens, and a confidence a keyframe."""

    def __init__(self, confidences: dict[int, float]) -> None:
        self._confidences = confidences

    def maps(self, _frame: int, keyframe: int, height: int, width: int) -> Map:
        positions, confidence = identity(height, width)
        return positions + 0.3, torch.full_like(confidence, self._confidences[keyframe])


@pytest.mark.parametrize(
    "lever",
    [from_the_nearest_keyframe_alone, partial(sampled, bilinear), partial(sampled, nearest_token)],
    ids=["nearest keyframe", "bilinear", "nearest token"],
)
@pytest.mark.parametrize("confidences", [(1.0, 1.0), (0.0, 0.9), (0.9, 0.0), (0.0, 0.0)])
def test_what_is_the_same_everywhere_stays_what_it_is(
    lever: Callable, confidences: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with lever():
        known = Known(dict(zip((0, 3), confidences, strict=True)))
        warp = propagation.tokenflow.Warp([1], [0, 3], known, {GRID}, CPU)
        carried = warp.warp_tokens(torch.full((1, 2, 20, 1), 3.0), GRID)
    torch.testing.assert_close(carried, torch.full((1, 1, 20, 1), 3.0), rtol=0, atol=1e-5)


def test_the_nearest_keyframe_alone_is_taken_where_it_shows_the_place() -> None:
    tokens = torch.tensor([0.0, 1.0])[None, :, None, None].expand(1, 2, 20, 1)
    with from_the_nearest_keyframe_alone():
        for frame, expected in ((1, 0.0), (2, 1.0)):
            warp = propagation.tokenflow.Warp([frame], [0, 3], Known({0: 0.9, 3: 0.9}), {GRID}, CPU)
            # The other one counts for a thousandth.
            torch.testing.assert_close(
                warp.warp_tokens(tokens, GRID), torch.full((1, 1, 20, 1), expected), rtol=0, atol=2e-3
            )


@pytest.mark.parametrize(("frame", "other"), [(1, 4), (4, 1)])
def test_exact_flow_is_the_drawings_motion_averaged_over_a_token(frame: int, other: int) -> None:
    truth = TUNING[0].truth
    positions, confidence = ExactFlow(truth.frames, 16, 16).maps(frame, other, 16, 16)
    side = truth.frames.shape[1] // 16
    motion = truth.clip.flow(frame, other).reshape(16, side, 16, side, 2).mean((1, 3)) / side
    expected = identity(16, 16)[0].numpy() + motion.reshape(-1, 2)
    np.testing.assert_allclose(positions.numpy(), expected, rtol=0, atol=0.01)  # the field rests in half precision
    seen = 1 - truth.clip.occluded(frame, other).reshape(16, side, 16, side).mean((1, 3)).reshape(-1)
    np.testing.assert_allclose(confidence.numpy(), seen, rtol=0, atol=1e-3)
    assert np.abs(motion).max() > 0.5
