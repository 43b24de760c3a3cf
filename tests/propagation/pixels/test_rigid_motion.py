"""Motions of image parts, from tracked points."""

import cv2
import numpy as np
import pytest

from tests.propagation.pixels.conftest import BACKGROUND
from tokenflow.propagation.pixels.rigid_motion import (
    fit_motion,
    is_inside,
    motion_flow,
    move_points,
    track_points,
    warp,
)

GREY = cv2.cvtColor(BACKGROUND, cv2.COLOR_RGB2GRAY)


def turned(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]])


@pytest.mark.parametrize(
    "motion", [turned(0, 1, 0, 0), turned(0, 1, 2.5, -1.25), turned(0.03, 1.02, -1, 2)], ids=["still", "shift", "turn"]
)
def test_the_motion_of_a_whole_image_is_found(motion: np.ndarray) -> None:
    second = warp(GREY, motion_flow(np.linalg.inv(motion), *GREY.shape), cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    found = fit_motion(GREY, second, np.ones(GREY.shape, bool), perspective=False)
    corners = np.array([[20.0, 20], [140, 20], [20, 140], [140, 140]])
    # Lucas and Kanade's method is good to about a tenth of a pixel; many points average it out.
    np.testing.assert_allclose(move_points(found, corners), move_points(motion, corners), atol=0.1)


def test_an_image_without_texture_stands_still() -> None:
    grey = np.full((64, 64), 128, np.uint8)
    whole = np.ones((64, 64), bool)
    assert len(track_points(grey, grey, whole)[0]) == 0
    found = fit_motion(grey, grey, whole, perspective=True)
    np.testing.assert_array_equal(found, np.eye(3))


def test_an_empty_part_stands_still() -> None:
    found = fit_motion(GREY, GREY, np.zeros(GREY.shape, bool), perspective=False)
    np.testing.assert_array_equal(found, np.eye(3))


def test_flow_and_points_move_alike() -> None:
    motion = turned(0.1, 1.1, 3, -2)
    flow = motion_flow(motion, 10, 12)
    np.testing.assert_allclose(flow[4, 7] + (7, 4), move_points(motion, np.array([[7.0, 4]]))[0], atol=1e-5)


def test_inside_is_up_to_half_a_pixel_beyond_the_outer_centres() -> None:
    flow = np.zeros((1, 3, 2), np.float32)
    flow[0, :, 0] = (-0.4, 0, 0.6)
    np.testing.assert_array_equal(is_inside(flow), [[True, True, False]])
