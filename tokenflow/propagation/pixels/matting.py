"""How much of each pixel belongs to an object, from how far its colour is from what lies behind."""

import cv2
import numpy as np

DISTINCT = 24.0
"""Difference of the most different channel, of 255, above which a pixel is not the background."""

SPECK = 0.0005
"""Of the frame's area: smaller parts of a mask are noise."""

CROSS = np.ones((3, 3), np.uint8)


def alpha_of(difference: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The share of an object in each pixel: 1 inside, between 0 and 1 along its outline.

    A pixel of the outline mixes both: its share is its distance from the background in relation to that of the nearest
    pixel inside.

    Args:
        difference: H W, of the image to the background, in the most different channel, 0 to 255.
        region: H W bool, where the object may be.

    Returns:
        H W float32 in [0, 1].
    """
    inside = (difference > DISTINCT) & region
    inside = fill_holes(without_specks(inside))
    if not inside.any():
        return np.zeros(difference.shape, np.float32)
    core = cv2.erode(inside.astype(np.uint8), CROSS) > 0
    if not core.any():
        core = inside
    _, labels = cv2.distanceTransformWithLabels(
        (~core).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(labels.max() + 1, np.float32)
    nearest[labels[core]] = difference[core]
    share = np.clip(difference / np.maximum(nearest[labels], 1), 0, 1)  # H W
    outline = cv2.dilate(inside.astype(np.uint8), CROSS) > 0
    return np.where(core, 1, np.where(outline, share, 0)).astype(np.float32)


def without_specks(mask: np.ndarray, share: float = SPECK) -> np.ndarray:
    """A mask (H W bool) without connected parts that are smaller than a share of its area."""
    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    large = figures[:, cv2.CC_STAT_AREA] >= share * mask.size
    large[0] = False  # what is not in the mask
    return large[labels]


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """A mask (H W bool) with what it encloses."""
    outside = np.pad((~mask).astype(np.uint8), 1, constant_values=1)
    _, labels = cv2.connectedComponents(outside, connectivity=4)
    return labels[1:-1, 1:-1] != labels[0, 0]


def connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The connected parts of a mask (H W bool) that touch any of the seeds (H W bool)."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    touched = np.unique(labels[mask & seeds])
    return np.isin(labels, touched[touched > 0])
