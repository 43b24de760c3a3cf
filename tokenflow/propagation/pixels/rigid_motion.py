"""The motion of a part of the image between two frames as one homography, from points tracked in it."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

Motion = np.ndarray
"""3 3, from homogeneous coordinates (x, y, 1) in pixels of one frame to those of another."""

SMALL, UPSCALING = 256, 2
"""Images whose longer side is shorter than this are enlarged by this factor before points are tracked."""

MAX_POINTS = 600
WINDOW = 21
"""Pixels along a side of the patches that are tracked."""

MISSED = 0.3
"""Pixels by which the way back may miss a point that was tracked well."""

TOLERANCE = 0.3 / 128
"""Distance to a motion, in the longer side of the image, up to which a point follows it."""

CANDIDATES = 3
"""How many motions, each of the points that the others leave over, are compared."""

LARGEST_RESIDUAL = 40.0
"""Of 255: above it, a pixel counts as occluded, however different it is."""

POINTS_OF_AFFINE, POINTS_OF_HOMOGRAPHY = 12, 40
"""Fewer points than these do not determine such a motion well."""


def track_points(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a part of one grey image, and where they are in another: n 2 each, x and y in pixels.

    Corners by Shi and Tomasi (CVPR 1994), tracked there and back by Lucas and Kanade's method in a pyramid.

    Args:
        first, second: H W uint8.
        where: H W bool, the part of the first image. The strongest corners in it are taken, however weak.
    """
    scale = UPSCALING if max(first.shape) < SMALL else 1
    images = [cv2.resize(each, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for each in (first, second)]
    spacing = max(3, round(0.012 * images[0].shape[1]))
    part = cv2.resize(where.astype(np.uint8), images[0].shape[::-1], interpolation=cv2.INTER_NEAREST)
    found = cv2.goodFeaturesToTrack(images[0], MAX_POINTS, 0.003, spacing, mask=part)
    if found is None:
        return np.zeros((0, 2)), np.zeros((0, 2))
    first, second = images
    moved, there = _track(first, second, found)
    returned, back = _track(second, first, moved)
    good = there & back & (np.linalg.norm(returned - found, axis=-1)[:, 0] < MISSED)
    points, places = ((each[good, 0].astype(np.float64) + 0.5) / scale - 0.5 for each in (found, moved))
    return points, places


def _track(first: np.ndarray, second: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.003)
    options: dict[str, Any] = {"winSize": (WINDOW, WINDOW), "maxLevel": 3, "criteria": stop}
    moved, found, _ = cv2.calcOpticalFlowPyrLK(first, second, points, None, **options)
    return moved, found[:, 0] > 0


def fit_motion(first: np.ndarray, second: np.ndarray, where: np.ndarray, perspective: bool) -> Motion:
    """The motion that makes a part of one image most like the other.

    Candidates are standing still, and what groups of the points agree on: translations, similarities, affine motions
    and, if there may be perspective, homographies.

    Args:
        first, second: H W uint8, grey.
        where: H W bool, the part of the first image.
        perspective: whether to try homographies.
    """
    points, places = track_points(first, second, where)
    candidates = [np.eye(3), *_candidates(points, places, TOLERANCE * max(first.shape), perspective)]
    return min(candidates, key=lambda motion: residual(first, second, motion, where))


def _candidates(points: np.ndarray, places: np.ndarray, tolerance: float, perspective: bool) -> Iterator[Motion]:
    left = np.ones(len(points), bool)
    for _ in range(CANDIDATES):
        if left.sum() < 4:
            return
        rough, _ = cv2.estimateAffinePartial2D(
            points[left],
            places[left],
            method=cv2.RANSAC,
            ransacReprojThreshold=tolerance,
            maxIters=2000,
            confidence=0.999,
        )
        if rough is None:
            return
        motion = np.vstack([rough, [0, 0, 1]])
        for _ in range(3):
            agree = np.linalg.norm(move_points(motion, points) - places, axis=1) < tolerance
            if agree.sum() < 4:
                break
            motion = _similarity(points[agree], places[agree])
        yield motion
        if agree.any():
            yield from _others(points[agree], places[agree], perspective)
        left &= ~agree


def _others(points: np.ndarray, places: np.ndarray, perspective: bool) -> Iterator[Motion]:
    """Motions of other kinds for points that follow a similarity."""
    translation = np.eye(3)
    translation[:2, 2] = np.median(places - points, axis=0)
    yield translation
    if len(points) >= POINTS_OF_AFFINE:
        rows = np.column_stack([points, np.ones(len(points))])  # n 3
        solution, *_ = np.linalg.lstsq(rows, places, rcond=None)  # 3 2
        yield np.vstack([solution.T, [0, 0, 1]])
    if perspective and len(points) >= POINTS_OF_HOMOGRAPHY:
        homography, _ = cv2.findHomography(points, places, 0)
        if homography is not None:
            yield homography


def _similarity(points: np.ndarray, places: np.ndarray) -> Motion:
    """The least-squares rotation, scale and translation."""
    rows = np.zeros((2 * len(points), 4))
    rows[0::2] = np.column_stack([points[:, 0], -points[:, 1], np.ones(len(points)), np.zeros(len(points))])
    rows[1::2] = np.column_stack([points[:, 1], points[:, 0], np.zeros(len(points)), np.ones(len(points))])
    (a, b, x, y), *_ = np.linalg.lstsq(rows, places.reshape(-1), rcond=None)
    return np.array([[a, -b, x], [b, a, y], [0, 0, 1]])


def residual(first: np.ndarray, second: np.ndarray, motion: Motion, where: np.ndarray) -> float:
    """Mean absolute difference of a part of one image to the other, moved; infinite if it moves out of the image."""
    flow = motion_flow(motion, *first.shape)
    compared = where & is_inside(flow)
    if not compared.any():
        return float("inf")
    difference = np.abs(first.astype(np.float32) - warp(second, flow))[compared]
    return float(np.minimum(difference, LARGEST_RESIDUAL).mean())


def move_points(motion: Motion, points: np.ndarray) -> np.ndarray:
    """Points n 2 moved, n 2."""
    moved = np.column_stack([points, np.ones(len(points))]) @ motion.T
    return moved[:, :2] / moved[:, 2:]


def motion_flow(motion: Motion, height: int, width: int) -> np.ndarray:
    """A motion as a displacement of every pixel, H W 2 float32."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    points = np.stack([columns.ravel(), rows.ravel()], axis=1)
    return (move_points(motion, points) - points).reshape(height, width, 2).astype(np.float32)


def warp(
    image: np.ndarray, flow: np.ndarray, interpolation: int = cv2.INTER_LINEAR, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """An image (H W or H W c) sampled where a flow (H W 2, pixels) points, float32."""
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    return cv2.remap(image.astype(np.float32), x, y, interpolation, borderMode=border)


def is_inside(flow: np.ndarray) -> np.ndarray:
    """H W bool: whether a flow (H W 2, pixels) stays within the image."""
    height, width = flow.shape[:2]
    x = np.arange(width) + flow[..., 0]
    y = np.arange(height)[:, None] + flow[..., 1]
    return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
