"""Optical flow between any two frames at full resolution, chained from neighbour to neighbour."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from tokenflow.correspondence.flow import SMALL, UPSCALING, chain_flows, confidence, optical_flow
from tokenflow.diffusion.latents import Frames
from tokenflow.store.arrays import PairFile, temporary_array

MAX_SIDE = 768
"""Pixels of the longer side of images in which flow is estimated; that of larger ones is enlarged."""


class DenseFlow:
    """Displacements of all pixels between the frames of a clip.

    Args:
        frames: f H W 3 uint8.
        folder: where flow is kept on disk; by default the system's temporary folder.

    Raises:
        OutputError: (when made or used) the folder cannot be written to.
    """

    def __init__(self, frames: Frames, folder: Path | None = None) -> None:
        self._frames = frames
        self._steps = PairFile(folder)

    def between(self, frame: int, keyframe: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel of a frame lies in a keyframe (H W 2 float32, pixels), and how confident that is (H W)."""
        if frame == keyframe:
            height, width = self._frames.shape[1:3]
            return np.zeros((height, width, 2), np.float32), np.ones((height, width), np.float32)
        towards = 1 if keyframe > frame else -1
        path = [(each, each + towards) for each in range(frame, keyframe, towards)]
        there = chain_flows([self._step(*pair) for pair in path])
        back = chain_flows([self._step(*reversed(pair)) for pair in reversed(path)])
        return there, confidence(there, back)

    def _step(self, frame: int, neighbour: int) -> np.ndarray:
        """Flow from a frame to its neighbour, H W 2."""
        pair = min(frame, neighbour), max(frame, neighbour)
        both = self._steps.get(pair, lambda a, b: flows(self._frames[a], self._frames[b]))
        return both[0 if frame < neighbour else 1]


class NeighbourFlow:
    """Displacements between neighbouring frames at the size at which they are estimated, one way at a time.

    Of the frames it keeps what flow is estimated from, in a temporary file, so that clips may be long.

    Args:
        frames: H W 3 uint8 each.
        count: how many there are.
        size: their width and height in pixels.
        folder: where the file is; by default the system's folder for temporary files.

    Raises:
        OutputError: nothing can be written to the folder.
    """

    def __init__(
        self, frames: Iterable[np.ndarray], count: int, size: tuple[int, int], folder: Path | None = None
    ) -> None:
        width, height = estimation_size(*size)
        self._greys = temporary_array((count, height, width), np.uint8, folder)
        for index, frame in enumerate(frames):
            self._greys[[index]] = _grey(frame)[None]

    def __call__(self, frame: int, neighbour: int) -> np.ndarray:
        """Where each pixel of a frame lies in its neighbour, H W 2 float32, in pixels of the size of estimation."""
        return optical_flow(self._greys[frame], self._greys[neighbour], fine=True)


def flows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Flow from one image (H W 3 uint8) to another and back, 2 H W 2 float32."""
    height, width = first.shape[:2]
    a, b = _grey(first), _grey(second)
    return np.stack([resized_flow(optical_flow(*pair, fine=True), width, height) for pair in ((a, b), (b, a))])


def estimation_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which the flow of images is estimated."""
    longer = max(height, width)
    scale = UPSCALING if longer < SMALL else min(1.0, MAX_SIDE / longer)
    return round(width * scale), round(height * scale)


def _grey(image: np.ndarray) -> np.ndarray:
    """An image (H W 3 uint8) as flow is estimated from it: grey, at the size of estimation."""
    height, width = image.shape[:2]
    size = estimation_size(width, height)
    how = cv2.INTER_CUBIC if size[0] > width else cv2.INTER_AREA
    return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=how)


def resized_flow(flow: np.ndarray, width: int, height: int) -> np.ndarray:
    """A flow brought to another size, in pixels of that size."""
    how = cv2.INTER_AREA if width < flow.shape[1] else cv2.INTER_LINEAR
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    return cv2.resize(flow, (width, height), interpolation=how) * scale
