"""Where a clip cuts from one shot to another: where flow cannot explain a frame by the one before it.

Motion, however fast, leaves most of a frame explained by its neighbour; a cut leaves next to nothing. What a frame has
left after motion compensation is compared with what is left around it, since grain and shaking leave something in every
frame. Detectors that compare colours only, such as PySceneDetect's, do not: see docs/shots.md for figures of both.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

import cv2
import numpy as np

from tokenflow.correspondence.flow import optical_flow, warp_image

SIDE = 96
"""Pixels of the longer side at which frames are compared."""

MIN_SIDE = 16
"""Pixels to which a shorter side is repeated: optical flow fails on less."""

MIN_LEFT = 0.2
"""Least mean difference that is left at a cut, relative to the contrast of the frames."""

MIN_CONTRAST = 0.05
"""Standard deviation, on a scale of 0 to 1, that flatter frames are taken to have, so that a few grey levels do
not count as a cut."""

TIMES_AROUND = 3.0
"""How many times more it leaves at a cut than in the frames around."""

AROUND = 3
"""How many frames before and after a frame are compared with it."""


def find_cuts(frames: Iterable[np.ndarray]) -> tuple[int, ...]:
    """The frames at which another shot begins, of frames H W 3 uint8.

    A single frame between two cuts is a shot, unless the frames before and after it match: then it is a flash.
    With two frames there is nothing to stand out from.
    """
    left: list[float] = []
    beside: dict[int, float] = {}
    recent: deque[np.ndarray] = deque(maxlen=3)
    for frame in frames:
        recent.append(_shrunk(frame))
        if len(recent) > 1:
            left.append(_unexplained(recent[-2], recent[-1]))
        if len(recent) == 3 and min(left[-2:]) > MIN_LEFT:  # the frame between may be a flash
            beside[len(left) - 1] = _unexplained(recent[0], recent[2])
    cuts = {frame for frame, value in enumerate(left, 1) if _stands_out(value, _around(left, frame, frame))}
    flashes = [
        frame
        for frame, value in beside.items()
        if {frame, frame + 1} <= cuts and not _stands_out(value, _around(left, frame, frame + 1))
    ]
    return tuple(sorted(cuts - {each for frame in flashes for each in (frame, frame + 1)}))


def unexplained(frames: Iterable[np.ndarray]) -> list[float]:
    """What each frame but the first shows that the one before does not, after motion compensation: the mean difference,
    relative to the contrast of the two."""
    return [_unexplained(*pair) for pair in pairwise(map(_shrunk, frames))]


def _around(left: Sequence[float], first: int, last: int) -> list[float]:
    """What is left at the frames around those from `first` to `last`; the first value is that of frame 1."""
    return [*left[max(0, first - 1 - AROUND) : first - 1], *left[last : last + AROUND]]


def _stands_out(value: float, around: Sequence[float]) -> bool:
    return bool(around) and value > MIN_LEFT and value > TIMES_AROUND * float(np.median(around))


def _shrunk(frame: np.ndarray) -> np.ndarray:
    """A frame at the size at which frames are compared, mirrored beyond its borders where a side is too short."""
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    height, width = (max(1, round(scale * side)) for side in frame.shape[:2])
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    below, right = max(0, MIN_SIDE - height), max(0, MIN_SIDE - width)
    return cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REFLECT)


def _unexplained(first: np.ndarray, second: np.ndarray) -> float:
    """What motion compensation leaves between two images, in the better of both directions."""
    contrast = max(float(first.std()), float(second.std())) / 255
    return min(_difference(first, second), _difference(second, first)) / max(contrast, MIN_CONTRAST)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean difference, on a scale of 0 to 1, of an image and another that flow lays over it, H W 3 uint8 both."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    warped = warp_image(second.astype(np.float32), optical_flow(grey[0], grey[1]))
    return float(np.abs(warped - first).mean()) / 255
