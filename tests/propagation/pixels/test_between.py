"""Frames of an edit carried to those between."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from tokenflow.propagation.pixels.between import carry_between


def tinted(frames: np.ndarray, *offsets: int) -> np.ndarray:
    """Frames of which each is brighter by an offset of its own, f H W 3 uint8; brighter by 0 to 100, so none clips."""
    return (frames + np.array(offsets)[:, None, None, None]).clip(0, 255).astype(np.uint8)


def carried(source: np.ndarray, edited: np.ndarray, interval: int, *cuts: int) -> np.ndarray:
    ends = [0, *cuts, len(source)]
    shots = [range(*pair) for pair in pairwise(ends)]
    return np.stack(list(carry_between(source, edited, shots, interval)))


@pytest.mark.parametrize(("interval", "kept"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3, 4]), (9, [0, 4])])
def test_every_nth_frame_and_the_last_come_back_as_they_are(interval: int, kept: list[int], discs: np.ndarray) -> None:
    edited = tinted(discs, 0, 5, 1, 5, 2)
    result = carried(discs, edited, interval)
    assert len(result) == len(discs)
    same = [index for index in range(len(discs)) if np.array_equal(result[index], edited[index])]
    assert same == kept


def test_a_flickering_tint_becomes_an_even_one(discs: np.ndarray) -> None:
    edited, even = tinted(discs, 0, 12, 4, 0, 8), tinted(discs, 0, 2, 4, 6, 8)
    background = np.s_[:, :24, 8:-8]  # which stands still, so that flow is exact
    result = carried(discs, edited, 4)[background].astype(int)
    # Rounding, and what little the own edit keeps where its gradients are flat.
    assert np.abs(result - even[background]).mean() < 1.0
    assert np.abs(edited[background].astype(int) - even[background]).mean() > 3


def test_what_differs_by_more_than_flicker_stays(discs: np.ndarray) -> None:
    edited = tinted(discs, 0, 60, 0, 0, 0)
    assert np.array_equal(carried(discs, edited, 4)[1], edited[1])


def test_another_shape_stays_as_its_own_frame_has_it(discs: np.ndarray, squares: np.ndarray) -> None:
    """The corners of the square, which the source does not have."""
    result = carried(discs, squares, 4)
    for index in range(1, 4):
        corner = np.s_[index, 37:42, 30 + 4 * index - 19 : 30 + 4 * index - 14]
        assert np.abs(result[corner].astype(int) - squares[corner]).mean() < 12
        assert np.abs(discs[corner].astype(int) - squares[corner]).mean() > 36


def test_nothing_is_carried_over_a_cut(discs: np.ndarray) -> None:
    edited = tinted(discs, 0, 9, 0, 9, 9)
    # Shots of two, one and two frames: each frame is the first or the last of one.
    assert np.array_equal(carried(discs, edited, 8, 2, 3), edited)


def test_frames_are_made_as_they_are_asked_for(discs: np.ndarray) -> None:
    """A clip of any length needs the frames of one interval at a time."""
    taken: list[int] = []

    def edited() -> Iterator[np.ndarray]:
        for index, frame in enumerate(discs):
            taken.append(index)
            yield frame

    frames = carry_between(discs, edited(), [range(5)], 2)
    next(frames)
    assert taken == [0, 1, 2]
