"""Masks as images: growing, feathering, and putting an edit into its source."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HALF = 0.5
"""Of a mask: above it, a pixel counts as inside."""


def grow(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A mask (H W in [0, 1]) that reaches further by some pixels, or less far if these are negative."""
    inside = mask > HALF
    if not pixels or not inside.any() or inside.all():
        return mask
    if pixels > 0:
        return np.maximum(mask, _distance(inside) <= pixels).astype(np.float32)
    return np.minimum(mask, _distance(~inside) > -pixels).astype(np.float32)


def feather(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A mask (H W in [0, 1]) that falls to 0 over some pixels outside of where it is above one half."""
    inside = mask > HALF
    if not pixels or not inside.any():
        return mask
    return np.maximum(mask, np.clip(1 - _distance(inside) / (pixels + 1), 0, 1)).astype(np.float32)


def _distance(inside: np.ndarray) -> np.ndarray:
    """H W, how far each pixel is from the nearest one inside, in pixels; 0 inside."""
    return cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def cover(mask: np.ndarray, height: int, width: int) -> Tensor:
    """Which of height × width latents a mask (H W) touches: 1 h w, 0 or 1."""
    return F.adaptive_max_pool2d(torch.from_numpy(mask > 0).float()[None], (height, width))


def paste(edited: np.ndarray, source: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """An edited image where alpha is 1 and its source's own values where it is 0.

    Args:
        edited, source: H W 3 uint8.
        alpha: H W uint8, 0 to 255 for 0 to 1.
    """
    share = alpha[..., None].astype(np.float32) / 255
    return (share * edited + (1 - share) * source).round().astype(np.uint8)
