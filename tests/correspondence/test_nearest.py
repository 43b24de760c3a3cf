"""Matching features: a shifted copy gives its shift to the digit, and a hand-made row the confidence by hand."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.correspondence.base import identity
from tokenflow.correspondence.nearest import NearestCorrespondence

HEIGHT, WIDTH, DEPTH = 10, 12, 24
MARGIN = 4
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
    """Positions n 2 that a shift leads to, and which of them lie on the grid."""
    positions = identity(HEIGHT, WIDTH)[0] + (1 if frame == 0 else -1) * torch.tensor(shift)
    return positions, ((positions >= 0) & (positions <= torch.tensor([WIDTH - 1, HEIGHT - 1]))).all(dim=1)


@ORDERS
@SHIFTS
def test_a_shifted_copy_gives_its_shift_for_sure(shift: tuple[int, int], frame: int, keyframe: int) -> None:
    positions, sure = NearestCorrespondence(shifted(shift)).maps(frame, keyframe, HEIGHT, WIDTH)
    truth, visible = expected(shift, frame)
    # The displacement is kept as a fraction of the picture in float32.
    torch.testing.assert_close(positions[visible], truth[visible], rtol=0, atol=1e-5)
    assert torch.equal(sure[visible], torch.ones(int(visible.sum())))


@ORDERS
def test_what_left_the_picture_is_less_sure(frame: int, keyframe: int) -> None:
    _, sure = NearestCorrespondence(shifted((3, 2))).maps(frame, keyframe, HEIGHT, WIDTH)
    _, visible = expected((3, 2), frame)
    assert sure[~visible].mean() < 0.5


def test_similarity_is_of_directions_not_of_lengths() -> None:
    plain, scaled = (NearestCorrespondence(shifted((3, 2), factor)) for factor in (1.0, 50.0))
    for one, other in zip(plain.maps(0, 1, HEIGHT, WIDTH), scaled.maps(0, 1, HEIGHT, WIDTH), strict=True):
        assert torch.equal(one, other)


def test_confidence_falls_with_the_distance_by_which_the_way_back_misses() -> None:
    """A row of four tokens, of which the first and the last both look most like the first of the other frame.

    The way back from there leads to the first: the last misses by 3 tokens and gets 1 / (1 + 3²).
    """
    x, y, z, w = torch.eye(4)
    first = torch.stack([x, y, z, x + 0.5 * w], dim=1)[:, None]
    second = torch.stack([x, y, z, y], dim=1)[:, None]
    positions, sure = NearestCorrespondence(Stored(first, second)).maps(0, 1, 1, 4)
    torch.testing.assert_close(positions[:, 0], torch.tensor([0.0, 1, 2, 0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(sure, torch.tensor([1, 1, 1, 0.1]), rtol=0, atol=1e-6)
    positions, sure = NearestCorrespondence(Stored(first, second)).maps(1, 0, 1, 4)
    torch.testing.assert_close(positions[:, 0], torch.tensor([0.0, 1, 2, 1]), rtol=0, atol=1e-6)
    torch.testing.assert_close(sure, torch.tensor([1, 1, 1, 0.2]), rtol=0, atol=1e-6)  # misses by 2 tokens


def test_a_coarser_grid_is_the_average_of_the_features_grid() -> None:
    correspondence = NearestCorrespondence(shifted((3, 2)))
    fine_positions, fine_sure = correspondence.maps(0, 1, HEIGHT, WIDTH)
    moved = (fine_positions - identity(HEIGHT, WIDTH)[0]).T.reshape(2, HEIGHT, WIDTH)
    positions, sure = correspondence.maps(0, 1, HEIGHT // 2, WIDTH // 2)
    average = F.avg_pool2d(moved, 2).flatten(1).T / 2  # in tokens that are twice as large
    torch.testing.assert_close(positions - identity(HEIGHT // 2, WIDTH // 2)[0], average, rtol=0, atol=1e-5)
    pooled = F.avg_pool2d(fine_sure.reshape(1, HEIGHT, WIDTH), 2).flatten()
    torch.testing.assert_close(sure, pooled, rtol=0, atol=1e-6)


def test_a_finer_grid_than_the_features_moves_as_far_in_the_picture() -> None:
    positions, _ = NearestCorrespondence(shifted((2, 0))).maps(0, 1, 2 * HEIGHT, 2 * WIDTH)
    moved = (positions - identity(2 * HEIGHT, 2 * WIDTH)[0]).reshape(2 * HEIGHT, 2 * WIDTH, 2)
    inside = moved[:, : 2 * (WIDTH - 2)]
    torch.testing.assert_close(inside, torch.tensor([4.0, 0.0]).expand_as(inside), rtol=0, atol=1e-5)


def test_a_frame_to_itself_is_the_identity_for_sure_and_needs_no_features() -> None:
    features = shifted((3, 2))
    positions, sure = NearestCorrespondence(features).maps(1, 1, HEIGHT, WIDTH)
    assert torch.equal(positions, identity(HEIGHT, WIDTH)[0])
    assert torch.equal(sure, torch.ones(HEIGHT * WIDTH))
    assert features.asked == []


def test_features_are_asked_for_once_a_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    features = Stored(*torch.randn(4, DEPTH, HEIGHT, WIDTH, generator=generator))
    correspondence = NearestCorrespondence(features)
    for _ in range(2):
        for frame in range(4):
            for keyframe in (0, 2):
                correspondence.maps(frame, keyframe, HEIGHT, WIDTH)
                correspondence.maps(keyframe, frame, HEIGHT // 2, WIDTH // 2)
    assert sorted(features.asked) == [[0], [1], [2], [3]]


def test_half_precision_features_are_matched_as_well() -> None:
    features = shifted((1, 0))
    halves = Stored(*(features([frame])[0].half() for frame in (0, 1)))
    positions, _ = NearestCorrespondence(halves).maps(0, 1, HEIGHT, WIDTH)
    truth, visible = expected((1, 0), 0)
    torch.testing.assert_close(positions[visible], truth[visible], rtol=0, atol=1e-5)
