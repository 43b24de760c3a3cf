"""Correspondence from optical flow of the source frames, with forward–backward confidence. Knows no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.diffusion.latents import Frames
from tokenflow.store.arrays import PairFile

PIXELS_A_LATENT = 4
"""Pixels along each side of a latent in which flow is kept. Tokens need none finer."""

SMALL, LARGER = 256, 2
"""Where the longer side has fewer pixels than this, flow is looked for in pictures so much larger: a patch that is
matched has eight pixels along each side at any size, and what moves in a small picture is not much larger."""

SMOOTHNESS = 40.0
"""Weight of smoothness in the refinement of flow, twice OpenCV's own."""


class FlowCorrespondence(Pairwise):
    """Token maps from dense optical flow (DIS: Kroeger et al., ECCV 2016), frame by frame.

    Flow is looked for between neighbours alone, which differ little, and followed from frame to frame to those further
    away. What moves fast is found so, which flow looked for at once loses a few frames on (docs/speed.md).

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
        self._larger = LARGER if PIXELS_A_LATENT * max(height, width) < SMALL else 1
        self._steps = PairFile(folder)

    def _find(self, first: int, second: int) -> np.ndarray:
        steps = [self._steps.get((frame, frame + 1), self._find_step) for frame in range(first, second)]
        forward, backward = (
            chain_flows([there for there, _ in steps]),
            chain_flows([back for _, back in reversed(steps)]),
        )
        return np.stack([self._reduce(forward, backward), self._reduce(backward, forward)])

    def _find_step(self, first: int, second: int) -> np.ndarray:
        """Flow there and back, 2 H W 2 float16 in pixels of which a latent has PIXELS_A_LATENT along each side."""
        a, b = self._grey(first), self._grey(second)
        size = [PIXELS_A_LATENT * side for side in reversed(self._grid)]
        flows = optical_flow(a, b, fine=True), optical_flow(b, a, fine=True)
        coarser = [cv2.resize(flow, size, interpolation=cv2.INTER_AREA) / self._larger for flow in flows]
        return np.stack(coarser).astype(np.float16)

    def _grey(self, frame: int) -> np.ndarray:
        """H W uint8, in the size that flow is looked for in."""
        grey = cv2.cvtColor(self._frames[frame], cv2.COLOR_RGB2GRAY)
        height, width = (self._larger * PIXELS_A_LATENT * side for side in self._grid)
        smaller = height < grey.shape[0]
        return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)

    def _reduce(self, flow: np.ndarray, back: np.ndarray) -> np.ndarray:
        height, width = flow.shape[:2]
        relative = flow / np.array([width, height], np.float32)
        field = np.dstack([relative, confidence(flow, back)])
        return cv2.resize(field, self._grid[::-1], interpolation=cv2.INTER_AREA).astype(np.float16)


def optical_flow(first: np.ndarray, second: np.ndarray, *, fine: bool = False) -> np.ndarray:
    """Where each pixel of `first` lies in `second`, as a displacement (H W 2, x and y in pixels, float32).

    Args:
        first, second: grey pictures, H W uint8.
        fine: look down to single pixels, which are four times as many, and for a smoother flow.
    """
    library: Any = cv2  # whose type stubs leave this class out
    estimator = library.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if fine:
        estimator.setFinestScale(0)
        estimator.setVariationalRefinementAlpha(SMOOTHNESS)
    return estimator.calc(first, second, None)


def chain_flows(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Where each pixel of the first frame lies in the last (H W 2 float32), of the flows from each frame to the next.

    Args:
        steps: H W 2 each, in pixels; at least one.
    """
    flow = steps[0].astype(np.float32)
    for step in steps[1:]:
        flow += warp_image(step.astype(np.float32), flow)
    return flow


def confidence(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """How far a flow (H W 2, pixels) is confirmed by the one back: H W in [0, 1], 0.5 at the tolerance."""
    there = warp_image(back, flow)
    missed = np.square(flow + there).sum(-1)
    tolerance = 0.01 * (np.square(flow).sum(-1) + np.square(there).sum(-1)) + 0.5
    height, width = flow.shape[:2]
    x = np.arange(width) + flow[..., 0]
    y = np.arange(height)[:, None] + flow[..., 1]
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return (inside / (1 + np.square(missed / tolerance))).astype(np.float32)


def warp_image(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A picture (H W c) read where a flow (H W 2, pixels) points to, bilinearly; beyond the border, its border."""
    height, width = flow.shape[:2]
    x = (np.arange(width, dtype=np.float32) + flow[..., 0]).astype(np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
