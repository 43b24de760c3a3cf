"""Edited frames carried to all others."""

import numpy as np
import pytest

from tests.propagation.pixels.conftest import BACKGROUND, FRAMES, SIDE
from tokenflow.propagation.pixels.edited_frames import CarriedFrame, Edit, carry, closeness, edges_kept, kind_of
from tokenflow.propagation.pixels.rigid_motion import warp


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(image.astype(float) - reference).mean() / 255**2))


def all_of(frames: np.ndarray, edited: dict[int, np.ndarray]) -> list[CarriedFrame]:
    return list(carry(frames, edited)[1])


def edit_of(source: np.ndarray, edited: np.ndarray) -> Edit:
    return Edit(source.astype(np.float32), edited.astype(np.float32))


def golden(frames: np.ndarray) -> np.ndarray:
    """The bright disc in another colour, with the same edges."""
    bright = frames.min(-1, keepdims=True) > 120
    return np.where(bright, (frames * np.array([1, 0.8, 0.3])).astype(np.uint8), frames)


def night(frames: np.ndarray) -> np.ndarray:
    return (frames * np.array([0.4, 0.4, 0.7])).astype(np.uint8)


def test_kinds_are_told_apart(discs: np.ndarray, squares: np.ndarray) -> None:
    assert kind_of([edit_of(discs[0], squares[0])]) == "shape"
    assert kind_of([edit_of(discs[0], golden(discs)[0])]) == "tint"
    assert kind_of([edit_of(discs[0], night(discs)[0] // 2)]) == "everywhere"


def test_a_change_on_a_surface_moves_with_it(discs: np.ndarray) -> None:
    edited = discs[0].copy()
    edited[46:54, 26:34] = 255 - edited[46:54, 26:34]  # inside the disc
    kind, frames = carry(discs, {0: edited})
    assert kind == "surface"
    last = list(frames)[-1].image
    moved = np.s_[47:53, 27 + 16 : 33 + 16]
    np.testing.assert_allclose(last[moved], edited[47:53, 27:33], atol=40)


@pytest.mark.parametrize("given", [(0,), (4,), (0, 4), (2,)])
def test_another_shape_is_carried_with_the_object_and_leaves_no_ghost(
    discs: np.ndarray, squares: np.ndarray, given: tuple[int, ...]
) -> None:
    carried = all_of(discs, {index: squares[index] for index in given})
    for index in set(range(FRAMES)) - set(given):
        unedited, image = psnr(discs[index], squares[index]), psnr(carried[index].image, squares[index])
        assert image > unedited + 10
        above = np.s_[36:38, 27 + 4 * index : 33 + 4 * index]  # the disc reached up here, the square does not
        np.testing.assert_allclose(carried[index].image[above], BACKGROUND[32:, :SIDE][above], atol=40)


def test_given_frames_come_back_as_they_are(discs: np.ndarray, squares: np.ndarray) -> None:
    carried = all_of(discs, {1: squares[1], 3: squares[3]})
    for index in (1, 3):
        np.testing.assert_array_equal(carried[index].image, squares[index])
        assert carried[index].certain.min() == 1


@pytest.mark.parametrize("change", [golden, night], ids=["tint", "everywhere"])
def test_a_change_of_colour_follows_the_motion(discs: np.ndarray, change: object) -> None:
    wanted = change(discs)  # type: ignore[operator]
    carried = all_of(discs, {0: wanted[0]})
    for index in range(1, FRAMES):
        assert psnr(carried[index].image, wanted[index]) > psnr(discs[index], wanted[index]) + 6


def test_frames_that_were_not_edited_change_nothing(discs: np.ndarray) -> None:
    for index, frame in enumerate(all_of(discs, {0: discs[0], 4: discs[4]})):
        np.testing.assert_array_equal(frame.image, discs[index])


def test_a_part_that_comes_into_view_keeps_its_source_and_is_uncertain() -> None:
    whole = np.stack([np.roll(draw_wide(), 6 * index, axis=1)[:, 40 : 40 + SIDE] for index in range(3)])
    edited = whole[0].copy()
    edited[30:60, :12] = 255 - edited[30:60, :12]
    carried = all_of(whole, {0: edited})
    assert all(frame.image.shape == (SIDE, SIDE, 3) for frame in carried)
    assert all(0 <= frame.certain.min() <= frame.certain.max() <= 1 for frame in carried)


def draw_wide() -> np.ndarray:
    return warp(BACKGROUND, np.zeros((*BACKGROUND.shape[:2], 2), np.float32)).astype(np.uint8)[:SIDE]


def test_weights_of_keyframes_add_up_to_one() -> None:
    assert closeness(3, [0, 12]) == {0: 0.75, 12: 0.25}
    assert closeness(3, [4]) == {4: 1.0}
    assert closeness(9, [0, 4]) == {4: 1.0}


def test_edges_tell_an_edit_of_a_frame_from_another_picture(discs: np.ndarray, squares: np.ndarray) -> None:
    assert edges_kept(discs[0], night(discs)[0]) > 0.95
    assert edges_kept(discs[0], night(discs)[4]) < edges_kept(discs[0], night(discs)[0]) - 0.15
    assert edges_kept(discs[0], squares[0]) > 0.5
