"""Values for places that have none, from those around them."""

import cv2
import numpy as np

SMALLEST = 2
"""Pixels along a side below which everything becomes one value."""


def fill_smoothly(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values kept where their weight is 1, and elsewhere filled from coarser and coarser means of those around.

    Pull-push (Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.2).

    Args:
        values: H W c float32.
        weights: H W in [0, 1].

    Returns:
        H W c float32.
    """
    height, width = weights.shape
    weights = weights.astype(np.float32)
    if min(height, width) <= SMALLEST:
        mean = (values * weights[..., None]).sum((0, 1)) / max(float(weights.sum()), 1e-8)
        return np.broadcast_to(mean, values.shape).astype(np.float32)
    half = -(-width // 2), -(-height // 2)
    coarse_weights = cv2.resize(weights, half, interpolation=cv2.INTER_AREA)  # H/2 W/2
    sums = _resize(values * weights[..., None], half, cv2.INTER_AREA)  # H/2 W/2 c
    means = sums / np.maximum(coarse_weights, 1e-8)[..., None]
    filled = fill_smoothly(means, np.minimum(1, 4 * coarse_weights))  # one pixel of four is enough
    around = _resize(filled, (width, height), cv2.INTER_LINEAR)  # H W c
    return values * weights[..., None] + around * (1 - weights[..., None])


def _resize(values: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """cv2.resize that keeps the last axis where it has one channel."""
    resized = cv2.resize(values, size, interpolation=interpolation)
    return resized.reshape(size[1], size[0], values.shape[-1])
