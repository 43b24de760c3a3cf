"""Levers change one thing: warps still preserve a constant, and exact flow is the drawing's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.clips import TUNING
from benchmarks.levers import (
    LEVERS,
    UNCHANGED,
    ExactFlow,
    bilinear,
    draw_once,
    draw_with_ends_halved,
    nearest_keyframe,
    nearest_token,
)
from benchmarks.sampling import Inverted
from benchmarks.truth import Resized
from tests.tiny import tiny_model, whole
from tokenflow.correspondence.base import Map, identity
from tokenflow.propagation.warp import Warp, WarpOptions

CPU = torch.device("cpu")
GRID = 4, 5


class Known:
    """Positions between tokens, and one confidence per keyframe."""

    def __init__(self, confidences: dict[int, float]) -> None:
        self._confidences = confidences

    def maps(self, _frame: int, keyframe: int, height: int, width: int) -> Map:
        positions, confidence = identity(height, width)
        return positions + 0.3, torch.full_like(confidence, self._confidences[keyframe])


@pytest.mark.parametrize(
    "options",
    [WarpOptions(blend=nearest_keyframe), WarpOptions(kernel=bilinear), WarpOptions(kernel=nearest_token)],
    ids=["nearest keyframe", "bilinear", "nearest token"],
)
@pytest.mark.parametrize("confidences", [(1.0, 1.0), (0.0, 0.9), (0.9, 0.0), (0.0, 0.0)])
def test_a_constant_is_preserved(options: WarpOptions, confidences: tuple[float, float]) -> None:
    known = Known(dict(zip((0, 3), confidences, strict=True)))
    warp = Warp([1], [0, 3], known, {GRID}, CPU, options)
    warped = warp.warp_tokens(torch.full((1, 2, 20, 1), 3.0), GRID)
    torch.testing.assert_close(warped, torch.full((1, 1, 20, 1), 3.0), rtol=0, atol=1e-5)


def test_the_nearest_keyframe_is_used_alone_where_it_shows_the_place() -> None:
    tokens = torch.tensor([0.0, 1.0])[None, :, None, None].expand(1, 2, 20, 1)
    for frame, expected in ((1, 0.0), (2, 1.0)):
        known = Known({0: 0.9, 3: 0.9})
        warp = Warp([frame], [0, 3], known, {GRID}, CPU, WarpOptions(blend=nearest_keyframe))
        # The other one counts for a thousandth.
        torch.testing.assert_close(
            warp.warp_tokens(tokens, GRID), torch.full((1, 1, 20, 1), expected), rtol=0, atol=2e-3
        )


@pytest.mark.parametrize(("frame", "other"), [(1, 4), (4, 1)])
def test_exact_flow_is_the_drawings_motion_averaged_over_a_token(frame: int, other: int) -> None:
    truth = TUNING[0].truth
    positions, confidence = ExactFlow(truth, 16, 16).maps(frame, other, 16, 16)
    side = truth.frames.shape[1] // 16
    motion = truth.clip.flow(frame, other).reshape(16, side, 16, side, 2).mean((1, 3)) / side
    expected = identity(16, 16)[0].numpy() + motion.reshape(-1, 2)
    np.testing.assert_allclose(positions.numpy(), expected, rtol=0, atol=0.01)  # fields are in half precision
    seen = 1 - truth.clip.occluded(frame, other).reshape(16, side, 16, side).mean((1, 3)).reshape(-1)
    np.testing.assert_allclose(confidence.numpy(), seen, rtol=0, atol=1e-3)
    assert np.abs(motion).max() > 0.5


def test_halved_ends_have_a_keyframe_more_and_the_same_keyframes_stay() -> None:
    for step in range(20):
        first, *_, last = draw_with_ends_halved(12, step)
        assert len(draw_with_ends_halved(12, step)) == 4
        assert first < 2
        assert last >= 10
    assert draw_once(12, 0) == draw_once(12, 7)


@pytest.fixture(scope="module")
def clip() -> Inverted:
    """A tuning clip in few pixels, and a tiny model."""
    truth = TUNING[4].truth
    return Inverted(tiny_model(), Resized(truth.clip, truth.target, 16))


OTHER_STEPS = {"15 steps", "10 steps", "8 steps", "6 steps"}
NOTHING_OCCLUDED_HERE = {"occluded where the way back misses by a latent", "never occluded"}
CHANGING = [name for name in LEVERS if name not in {*OTHER_STEPS, *NOTHING_OCCLUDED_HERE, UNCHANGED}]


def test_tuning_clips_are_told_apart_by_their_prompts() -> None:
    assert len({case.truth.prompts[0] for case in TUNING}) == len(TUNING)


@pytest.mark.parametrize(
    "name", [name for name in LEVERS if name not in {*OTHER_STEPS, *NOTHING_OCCLUDED_HERE, UNCHANGED}]
)
def test_a_lever_changes_the_edit(name: str, clip: Inverted) -> None:
    changed, usual = (whole(clip.sample(replace(LEVERS[each], steps=4))) for each in (name, UNCHANGED))
    assert changed.isfinite().all()
    assert not torch.equal(changed, usual)
