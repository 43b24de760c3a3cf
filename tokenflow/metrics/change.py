"""How much an edit changed the source, inside and outside the region that it was meant to change.

Outside, less is better: what PIE-Bench calls background preservation (Ju et al., ICLR 2024). Inside, zero is an edit
that did nothing; above that, more is not better.
"""

import cv2
import numpy as np

PART = 0.05
"""Of an image, that which changed most."""

BLUR, WIDTH = 2.0, 128
"""Standard deviation in pixels of the Gaussian before that is found, for images of this width; it grows with theirs."""


class Change:
    """The difference between an edit and its source, fed frame by frame."""

    def __init__(self) -> None:
        self.over_time: dict[str, dict[str, list[float | None]]] = {"change": {}}
        """`change`: mean absolute difference per frame in grey levels, 0 to 255, of the `whole` image, of the `most`
        changed part and, with masks, `inside` and `outside`; None where the mask leaves nothing to measure."""

    def add(self, source: np.ndarray, edit: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Measure the next frame.

        Args:
            source, edit: H W 3 uint8.
            mask: H W in [0, 1], 1 where the edit is meant to change something; None if unknown.
        """
        regions = {"whole": np.ones(source.shape[:2])}
        if mask is not None:
            regions |= {"inside": mask, "outside": 1 - mask}
        for name, weights in regions.items():
            value = mean_change(source, edit, weights) if weights.any() else None
            self.over_time["change"].setdefault(name, []).append(value)
        self.over_time["change"].setdefault("most", []).append(largest_change(source, edit))


def largest_change(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of the `PART` of two blurred images (H W 3) that differs most: independent of how much
    of an image an object covers."""
    sigma = BLUR * first.shape[1] / WIDTH
    blurred = (cv2.GaussianBlur(each.astype(np.float32), (0, 0), sigma) for each in (first, second))
    difference = np.abs(next(blurred) - next(blurred)).mean(-1).ravel()  # (H W)
    return float(np.sort(difference)[-max(1, round(PART * difference.size)) :].mean())


def mean_change(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    """Mean absolute difference of two images (H W 3), its pixels weighted by `weights` (H W, at least 0, not all 0)."""
    difference = np.abs(first.astype(np.float64) - second).mean(-1)  # H W
    return float((difference * weights).sum() / weights.sum())
