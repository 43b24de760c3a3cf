"""How much of the source's outlines an edit kept: shows a head that dissolved, or a car that shrank."""

from collections.abc import Mapping

import cv2
import numpy as np

WIDTH = 128
"""Of the images for which the lengths below are given, in pixels; they grow with wider ones."""

BLUR = 1.0
"""Standard deviation of the Gaussian before edges are found, so that fine texture counts little."""

TOLERANCE = 2
"""By how much an edge may be displaced."""

OUTLINES, TRACES = (60, 150), (15, 40)
"""Canny's thresholds, of grey levels from 0 to 255: strong edges of the source, and even weak ones of the edit, since
an edit of the light may lower contrast."""


class Outlines:
    """The share of the source's outlines that images kept, fed frame by frame."""

    def __init__(self) -> None:
        self.over_time: dict[str, dict[str, list[float | None]]] = {}
        """`outlines` by clip: per frame, in [0, 1]; None where the source has no outlines."""

    def add(self, source: np.ndarray, images: Mapping[str, np.ndarray]) -> None:
        """Measure the next frame: the source, and the images to measure by clip (all H W 3 uint8)."""
        scale = source.shape[1] / WIDTH
        outlines = find_edges(source, OUTLINES, scale)
        for name, image in images.items():
            kept = outlines & dilated(find_edges(image, TRACES, scale), round(TOLERANCE * scale))
            value = float(kept.sum() / outlines.sum()) if outlines.any() else None
            self.over_time.setdefault("outlines", {}).setdefault(name, []).append(value)


def find_edges(image: np.ndarray, thresholds: tuple[int, int], scale: float) -> np.ndarray:
    """The edges of an image H W 3 uint8 (Canny, 1986), after a blur: H W bool.

    Args:
        image: the image.
        thresholds: the weak and the strong one, of grey levels.
        scale: width of the image, of `WIDTH`.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), BLUR * scale)
    return cv2.Canny(grey, *thresholds) > 0


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """H W, True up to `radius` pixels from where a mask H W is."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(mask.astype(np.uint8), disc) > 0
