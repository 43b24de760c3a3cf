"""Correspondence from optical flow of the source frames, with forward–backward confidence. Knows no network."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.rows import Frames

PIXELS_A_LATENT = 4
"""Pixels along each side of a latent at which flow is looked for, at most. Tokens need none finer."""


class FlowCorrespondence(Pairwise):
    """Token maps from dense optical flow (DIS: Kroeger et al., ECCV 2016).

    The confidence of a pixel is 1 where the flow there and back returns to it and falls to 0 where it misses by more
    than it should (occlusion), with the tolerance of Sundaram et al., ECCV 2010, equation 5.

    Args:
        frames: f H W 3 uint8, the source's frames.
        height, width: the finest token grid, that is, the latents' size; coarser ones are averaged from it.
        folder: on whose disk what is found rests.
    """

    def __init__(self, frames: Frames, height: int, width: int, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._frames = frames
        self._grid = height, width

    def _find(self, first: int, second: int) -> np.ndarray:
        a, b = self._grey(first), self._grey(second)
        forward, backward = optical_flow(a, b), optical_flow(b, a)
        return np.stack([self._reduce(forward, backward), self._reduce(backward, forward)])

    def _grey(self, frame: int) -> np.ndarray:
        """H W uint8, made smaller where it has more pixels than flow needs."""
        grey = cv2.cvtColor(self._frames[frame], cv2.COLOR_RGB2GRAY)
        height, width = (PIXELS_A_LATENT * side for side in self._grid)
        if height >= grey.shape[0]:
            return grey
        return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)

    def _reduce(self, flow: np.ndarray, back: np.ndarray) -> np.ndarray:
        height, width = flow.shape[:2]
        relative = flow / np.array([width, height], np.float32)
        field = np.dstack([relative, confidence(flow, back)])
        return cv2.resize(field, self._grid[::-1], interpolation=cv2.INTER_AREA).astype(np.float16)


def optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where each pixel of `first` lies in `second`, as a displacement (H W 2, x and y in pixels, float32).

    Args:
        first, second: grey pictures, H W uint8.
    """
    estimator: Any = cv2  # whose type stubs leave this class out
    return estimator.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)


def confidence(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """How far a flow (H W 2, pixels) is confirmed by the one back: H W in [0, 1], 0.5 at the tolerance."""
    there = sample(back, flow)
    missed = np.square(flow + there).sum(-1)
    tolerance = 0.01 * (np.square(flow).sum(-1) + np.square(there).sum(-1)) + 0.5
    height, width = flow.shape[:2]
    x = np.arange(width) + flow[..., 0]
    y = np.arange(height)[:, None] + flow[..., 1]
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return (inside / (1 + np.square(missed / tolerance))).astype(np.float32)


def sample(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A picture (H W c) read where a flow (H W 2, pixels) points to, bilinearly; beyond the border, its border."""
    height, width = flow.shape[:2]
    x = (np.arange(width, dtype=np.float32) + flow[..., 0]).astype(np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
