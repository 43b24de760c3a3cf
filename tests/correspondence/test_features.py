"""Matching features: a shifted copy gives its shift, a parabola its peak, a hand-made row the confidence by hand."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenflow.correspondence.base import identity
from tokenflow.correspondence.features import FeatureCorrespondence, _between_tokens

HEIGHT, WIDTH, DEPTH = 10, 12, 24
MARGIN = 4
WITHIN = 0.25
"""Tokens by which the peak of a parabola may miss a token whose neighbours are random; half a token is the most."""

ORDERS = pytest.mark.parametrize(("frame", "keyframe"), [(0, 1), (1, 0)])
SHIFTS = pytest.mark.parametrize("shift", [(1, 0), (0, -2), (3, 2), (-4, 1)], ids=str)


class Stored:
    """Features of frames, d h w each, that note which frames were asked for."""

    def __init__(self, *features: Tensor) -> None:
        self._features = features
        self.asked: list[list[int]] = []

    def __call__(self, frames: Sequence[int]) -> Tensor:
        self.asked.append(list(frames))
        return torch.stack([self._features[frame] for frame in frames])


def shifted(shift: tuple[int, int], factor: float = 1.0) -> Stored:
    """Random features of two frames: those of a token of the first lie `shift` (x, y) further in the second."""
    generator = torch.Generator().manual_seed(0)
    ground = torch.randn(DEPTH, HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, generator=generator)
    dx, dy = shift
    first, second = (
        ground[:, top : top + HEIGHT, left : left + WIDTH]
        for top, left in ((MARGIN, MARGIN), (MARGIN - dy, MARGIN - dx))
    )
    return Stored(first, factor * second)


def expected(shift: tuple[int, int], frame: int) -> tuple[Tensor, Tensor]:
    """Positions n 2 that a shift leads to, and which of them lie on the grid, with all that is around them."""
    grid = identity(HEIGHT, WIDTH)[0]
    positions = grid + (1 if frame == 0 else -1) * torch.tensor(shift)
    last = torch.tensor([WIDTH - 1, HEIGHT - 1])
    return positions, ((torch.minimum(grid, positions) >= 1) & (torch.maximum(grid, positions) < last)).all(dim=1)


@ORDERS
@SHIFTS
def test_a_shifted_copy_gives_its_shift_for_sure(shift: tuple[int, int], frame: int, keyframe: int) -> None:
    positions, sure = FeatureCorrespondence(shifted(shift)).maps(frame, keyframe, HEIGHT, WIDTH)
    truth, visible = expected(shift, frame)
    torch.testing.assert_close(positions[visible], truth[visible], rtol=0, atol=WITHIN)
    assert torch.equal(sure[visible], torch.ones(int(visible.sum())))


@ORDERS
def test_what_left_the_picture_is_less_sure(frame: int, keyframe: int) -> None:
    _, sure = FeatureCorrespondence(shifted((3, 2))).maps(frame, keyframe, HEIGHT, WIDTH)
    positions = expected((3, 2), frame)[0]
    gone = ((positions < 0) | (positions > torch.tensor([WIDTH - 1, HEIGHT - 1]))).any(dim=1)
    assert sure[gone].mean() < 0.5


def test_similarity_is_of_directions_not_of_lengths() -> None:
    plain, scaled = (FeatureCorrespondence(shifted((3, 2), factor)) for factor in (1.0, 50.0))
    for one, other in zip(plain.maps(0, 1, HEIGHT, WIDTH), scaled.maps(0, 1, HEIGHT, WIDTH), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_what_looks_the_same_everywhere_stays_where_it_is() -> None:
    flat = torch.ones(DEPTH, HEIGHT, WIDTH)
    positions, sure = FeatureCorrespondence(Stored(flat, flat)).maps(0, 1, HEIGHT, WIDTH)
    torch.testing.assert_close(positions, identity(HEIGHT, WIDTH)[0], rtol=0, atol=1e-4)
    assert torch.equal(sure, torch.ones(HEIGHT * WIDTH))


def test_of_two_that_look_alike_the_nearer_one_is_taken() -> None:
    """A pattern that comes again four tokens on and that moved by one: on the other side its copy is three away."""
    generator = torch.Generator().manual_seed(0)
    period = torch.randn(DEPTH, HEIGHT + 1, 4, generator=generator)
    ground = period.repeat(1, 1, WIDTH // 4 + 1)
    first, second = ground[:, :HEIGHT, 1 : WIDTH + 1], ground[:, :HEIGHT, :WIDTH]
    positions, _ = FeatureCorrespondence(Stored(first, second)).maps(0, 1, HEIGHT, WIDTH)
    moved = (positions - identity(HEIGHT, WIDTH)[0]).unflatten(0, (HEIGHT, WIDTH))[1:-1, 1:-2]
    torch.testing.assert_close(moved, torch.tensor([1.0, 0.0]).expand_as(moved), rtol=0, atol=WITHIN)


@pytest.mark.parametrize("shift", [(0.4, 0.0), (1.3, -0.7)])
def test_smooth_features_are_found_between_tokens(shift: tuple[float, float]) -> None:
    """Sums of waves, each some tokens long, shifted by less than a token."""
    waves = torch.randn(DEPTH, 3, generator=torch.Generator().manual_seed(0))

    def drawn(shift: tuple[float, float]) -> Tensor:
        places = identity(HEIGHT, WIDTH)[0] - torch.tensor(shift)
        return torch.sin(places @ waves[:, :2].T + 3 * waves[:, 2]).T.unflatten(1, (HEIGHT, WIDTH))

    positions, _ = FeatureCorrespondence(Stored(drawn((0, 0)), drawn(shift))).maps(0, 1, HEIGHT, WIDTH)
    moved = (positions - identity(HEIGHT, WIDTH)[0]).unflatten(0, (HEIGHT, WIDTH))[2:-2, 2:-2]
    # Whole tokens miss by 0.4 and 0.3 of one.
    torch.testing.assert_close(moved, torch.tensor(shift).expand_as(moved), rtol=0, atol=0.15)


@given(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49), st.floats(0.01, 10))
def test_between_tokens_lies_the_peak_of_a_parabola(x: float, y: float, steepness: float) -> None:
    grid = identity(3, 3)[0]
    similarity = -steepness * (grid - torch.tensor([1 + x, 1 + y])).square().sum(1)[None]
    found = _between_tokens(similarity, torch.tensor([4]), torch.tensor([3, 3]))
    torch.testing.assert_close(found, torch.tensor([[x, y]]), rtol=0, atol=1e-3)  # differences of float32


@pytest.mark.parametrize("corner", [0, 2, 6, 8])
def test_at_a_corner_a_match_stays_with_its_token(corner: int) -> None:
    similarity = torch.rand(1, 9, generator=torch.Generator().manual_seed(0))
    assert not _between_tokens(similarity, torch.tensor([corner]), torch.tensor([3, 3])).any()


def test_confidence_falls_with_the_distance_by_which_the_way_back_misses() -> None:
    """A row of twelve tokens, whose last three look like its first three, and most like the first of the other frame.

    The way back from there leads to the first ones: the last but one misses by 9 tokens and gets 1 / (1 + 9²).
    """
    generator = torch.Generator().manual_seed(0)
    shared, alone, other = (torch.randn(64, count, generator=generator) for count in (9, 3, 3))
    first = torch.cat([shared, shared[:, :3] + 0.5 * alone], dim=1)[:, None]
    second = torch.cat([shared, other], dim=1)[:, None]
    positions, sure = FeatureCorrespondence(Stored(first, second)).maps(0, 1, 1, 12)
    truth = torch.tensor([1.0, 2, 3, 4, 5, 6, 7])
    torch.testing.assert_close(positions[1:8, 0], truth, rtol=0, atol=WITHIN)
    torch.testing.assert_close(sure[1:8], torch.ones(7), rtol=0, atol=0)
    torch.testing.assert_close(positions[10, 0], torch.tensor(1.0), rtol=0, atol=WITHIN)
    torch.testing.assert_close(sure[10], torch.tensor(1 / 82), rtol=0, atol=1e-6)


def test_a_coarser_grid_is_the_average_of_the_features_grid() -> None:
    correspondence = FeatureCorrespondence(shifted((3, 2)))
    fine_positions, fine_sure = correspondence.maps(0, 1, HEIGHT, WIDTH)
    moved = (fine_positions - identity(HEIGHT, WIDTH)[0]).T.reshape(2, HEIGHT, WIDTH)
    positions, sure = correspondence.maps(0, 1, HEIGHT // 2, WIDTH // 2)
    average = F.avg_pool2d(moved, 2).flatten(1).T / 2  # in tokens that are twice as large
    torch.testing.assert_close(positions - identity(HEIGHT // 2, WIDTH // 2)[0], average, rtol=0, atol=1e-5)
    pooled = F.avg_pool2d(fine_sure.reshape(1, HEIGHT, WIDTH), 2).flatten()
    torch.testing.assert_close(sure, pooled, rtol=0, atol=1e-6)


def test_a_finer_grid_than_the_features_moves_as_far_in_the_picture() -> None:
    positions, _ = FeatureCorrespondence(shifted((2, 0))).maps(0, 1, 2 * HEIGHT, 2 * WIDTH)
    moved = (positions - identity(2 * HEIGHT, 2 * WIDTH)[0]).reshape(2 * HEIGHT, 2 * WIDTH, 2)
    inside = moved[:, : 2 * (WIDTH - 2)]
    torch.testing.assert_close(inside.mean((0, 1)), torch.tensor([4.0, 0.0]), rtol=0, atol=WITHIN)


def test_a_frame_to_itself_is_the_identity_for_sure_and_needs_no_features() -> None:
    features = shifted((3, 2))
    positions, sure = FeatureCorrespondence(features).maps(1, 1, HEIGHT, WIDTH)
    assert torch.equal(positions, identity(HEIGHT, WIDTH)[0])
    assert torch.equal(sure, torch.ones(HEIGHT * WIDTH))
    assert features.asked == []


def test_features_are_asked_for_once_a_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    features = Stored(*torch.randn(4, DEPTH, HEIGHT, WIDTH, generator=generator))
    correspondence = FeatureCorrespondence(features)
    for _ in range(2):
        for frame in range(4):
            for keyframe in (0, 2):
                correspondence.maps(frame, keyframe, HEIGHT, WIDTH)
                correspondence.maps(keyframe, frame, HEIGHT // 2, WIDTH // 2)
    assert sorted(features.asked) == [[0], [1], [2], [3]]


def test_half_precision_features_are_matched_as_well() -> None:
    features = shifted((1, 0))
    halves = Stored(*(features([frame])[0].half() for frame in (0, 1)))
    positions, _ = FeatureCorrespondence(halves).maps(0, 1, HEIGHT, WIDTH)
    truth, visible = expected((1, 0), 0)
    torch.testing.assert_close(positions[visible], truth[visible], rtol=0, atol=WITHIN)
