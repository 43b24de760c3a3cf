"""How well the edges of an edit's object agree with those of the perfect edit.

A network that classifies whole images sees a cat without a head as a cat. Its outline tells: edges of the perfect edit
are missing where the head should be. Blurring comes first, so that fine texture, of which a prompt says nothing, counts
little.
"""

from collections.abc import Iterator

import numpy as np

from tokenflow.metrics.outlines import TOLERANCE, WIDTH, dilated, find_edges

THRESHOLDS = 30, 80
"""Canny's, of grey levels from 0 to 255; lengths below are for images of `WIDTH` pixels."""

MARGIN = 3
"""Around the object, within which edges count."""

CROP, STRIDE = 48, 8
"""Side of a crop and distance between crops; a head of the drawn animals is about as large."""

MIN_EDGE = 48
"""Length of edge that a crop needs to count."""


def edge_agreement(edited: np.ndarray, perfect: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """How well edges agree on the object; means over frames, in [0, 1].

    Args:
        edited, perfect: f H W 3 uint8.
        masks: f H W in [0, 1], the object's share of each pixel in the perfect edit.

    Returns:
        `edges`: harmonic mean of the share of the edit's edges that the perfect edit has within `TOLERANCE`, and of the
        share of the perfect edit's edges that the edit has. `worst_crop`: the latter share in the crop where it is
        lowest.
    """
    scale = edited.shape[2] / WIDTH
    tolerance = round(TOLERANCE * scale)
    scores, crops = [], []
    for frame, reference, mask in zip(edited, perfect, masks, strict=True):
        near_object = dilated(mask > 0.5, round(MARGIN * scale))
        found, wanted = (find_edges(each, THRESHOLDS, scale) & near_object for each in (frame, reference))
        hit = wanted & dilated(found, tolerance)
        precision = _share(found & dilated(wanted, tolerance), found)
        recall = _share(hit, wanted)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        crops.append(min(_crop_shares(hit, wanted, scale), default=recall))
    return {"edges": float(np.mean(scores)), "worst_crop": float(np.mean(crops))}


def _crop_shares(hit: np.ndarray, wanted: np.ndarray, scale: float) -> Iterator[float]:
    """The share of wanted edges that were hit, of every crop that has enough of them."""
    height, width = wanted.shape
    side, stride = round(CROP * scale), round(STRIDE * scale)
    for top in range(0, height - side + 1, stride):
        for left in range(0, width - side + 1, stride):
            place = np.s_[top : top + side, left : left + side]
            if wanted[place].sum() >= MIN_EDGE * scale:
                yield _share(hit[place], wanted[place])


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    """Of the pixels of a mask, those that are in a part of it; 0 if there are none."""
    return float(part.sum() / whole.sum()) if whole.any() else 0.0
