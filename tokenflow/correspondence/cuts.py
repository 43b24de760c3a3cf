"""Where a clip cuts from one shot to another: where flow cannot explain a frame by the one before it.

Motion, however fast, leaves most of a frame explained by its neighbour; a cut leaves next to nothing. What a frame has
left after motion compensation is compared with what is left around it, since grain and shaking leave something in every
frame. No detector by colours alone, as PySceneDetect's, does that: see docs/shots.md for figures of both.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from tokenflow.correspondence.flow import optical_flow, warp_image

SIDE = 96
"""Pixels of the longer side at which frames are compared."""

MIN_LEFT = 0.05
"""Mean difference, of 1, that motion compensation leaves at a cut at least."""

TIMES_AROUND = 3.0
"""How many times more it leaves at a cut than in the frames around."""

AROUND = 3
"""How many frames before and after a frame are compared with it."""


def find_cuts(frames: Iterable[np.ndarray]) -> tuple[int, ...]:
    """The frames at which another shot begins, of frames H W 3 uint8."""
    return _peaks(unexplained(frames))


def unexplained(frames: Iterable[np.ndarray]) -> list[float]:
    """What each frame but the first shows that the one before does not, after motion compensation: in [0, 1]."""
    left = []
    before: np.ndarray | None = None
    for frame in frames:
        small = _shrunk(frame)
        if before is not None:
            left.append(min(_difference(before, small), _difference(small, before)))
        before = small
    return left


def _peaks(left: Sequence[float]) -> tuple[int, ...]:
    """The frames that stand out, where the first of the values belongs to frame 1; but no flash of a single frame.

    With two frames there is nothing to stand out from.
    """
    cuts: list[int] = []
    for place, value in enumerate(left):
        around = [*left[max(0, place - AROUND) : place], *left[place + 1 : place + 1 + AROUND]]
        if around and value > MIN_LEFT and value > TIMES_AROUND * float(np.median(around)):
            cuts.append(place + 1)
    return tuple(cut for cut in cuts if not {cut - 1, cut + 1} & set(cuts))


def _shrunk(frame: np.ndarray) -> np.ndarray:
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean difference of an image and another that flow lays over it, H W 3 uint8 both."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    warped = warp_image(second.astype(np.float32), optical_flow(grey[0], grey[1]))
    return float(np.abs(warped - first).mean()) / 255
