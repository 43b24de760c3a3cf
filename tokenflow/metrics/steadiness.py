"""How steady pictures are along the motion of their source: warp error and flicker.

Pictures are H W 3. Both figures are of what an edit adds to its source's motion: the source's own are the floor that
light, noise and the errors of optical flow leave.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from tokenflow.correspondence.flow import confidence, optical_flow, warp_image

CONFIRMED = 0.5
"""A pixel counts if its flow is confirmed by the one back at least this far."""


@dataclass(frozen=True)
class Motion:
    """Between two neighbouring frames of the source, both ways.

    Attributes:
        forth, back: H W 2 in pixels, from the earlier frame to the later one, and from the later to the earlier.
        forth_seen, back_seen: H W, which pixels of the frame that it starts from are seen in the other one too.
    """

    forth: np.ndarray
    back: np.ndarray
    forth_seen: np.ndarray
    back_seen: np.ndarray

    @classmethod
    def between(cls, earlier: np.ndarray, later: np.ndarray) -> Self:
        """By optical flow of grey pictures, H W uint8."""
        forth, back = optical_flow(earlier, later), optical_flow(later, earlier)
        return cls(forth, back, confidence(forth, back) >= CONFIRMED, confidence(back, forth) >= CONFIRMED)


class Steadiness:
    """Warp error and flicker of clips that should move as one source does, frame by frame.

    Flow is the source's and is taken once a pair of neighbours. Three frames are held at a time.
    """

    def __init__(self) -> None:
        self.over_time: dict[str, dict[str, list[float]]] = {}
        """`warp_error_e3` (×10⁻³, a pair of neighbours each) and `flicker` (grey levels of 255, a frame that has two
        neighbours each), by name."""
        self._grey: np.ndarray | None = None
        self._motion: Motion | None = None
        self._last: list[dict[str, np.ndarray]] = []

    def add(self, source: np.ndarray, pictures: Mapping[str, np.ndarray]) -> None:
        """The next frame: the source, from which flow is taken, and what is measured by name (H W 3 uint8 all)."""
        grey = cv2.cvtColor(source, cv2.COLOR_RGB2GRAY)
        now = {name: picture.astype(np.float32) / 255 for name, picture in pictures.items()}
        motion = None if self._grey is None else Motion.between(self._grey, grey)
        if motion is not None:
            before = self._last[-1]
            for name, picture in now.items():
                self._note("warp_error_e3", name, 1e3 * _along(before[name], picture, motion))
        if motion is not None and self._motion is not None:
            for name, picture in now.items():
                trio = self._last[0][name], self._last[1][name], picture
                self._note("flicker", name, 255 * _between(*trio, self._motion, motion))
        self._grey, self._motion, self._last = grey, motion, [*self._last[-1:], now]

    def _note(self, figure: str, name: str, value: float) -> None:
        self.over_time.setdefault(figure, {}).setdefault(name, []).append(value)


def _along(before: np.ndarray, after: np.ndarray, motion: Motion) -> float:
    return warp_error(before, after, motion.forth, motion.forth_seen)


def _between(before: np.ndarray, picture: np.ndarray, after: np.ndarray, first: Motion, second: Motion) -> float:
    return flicker(before, picture, after, first.back, second.forth, first.back_seen & second.forth_seen)


def warp_error(first: np.ndarray, second: np.ndarray, flow: np.ndarray, counted: np.ndarray) -> float:
    """Mean squared difference of two pictures along a flow (the temporal warping error of Lai et al., ECCV 2018).

    The later picture is read where the source's flow leads to from the earlier one, over pixels that are not occluded.
    0 is a clip that moves exactly as its source and changes in no other way. Papers give it × 10³.

    Args:
        first, second: H W 3 in [0, 1].
        flow: H W 2 in pixels, from `first` to `second`.
        counted: H W, which pixels of `first` count; with none, the error is 0.
    """
    difference = np.square(warp_image(second, flow) - first).mean(-1)
    return float(difference[counted].mean()) if counted.any() else 0.0


def flicker(
    before: np.ndarray,
    picture: np.ndarray,
    after: np.ndarray,
    to_before: np.ndarray,
    to_after: np.ndarray,
    counted: np.ndarray,
) -> float:
    """How far a picture is from the mean of its two neighbours along the motion, as a mean absolute difference.

    A pixel that goes up and comes back counts in full; one that drifts evenly, as light does at dusk, does not count,
    which is what this tells beyond the warp error. Over a still clip whose frames alternate between two pictures it is
    the mean absolute difference of neighbours, VBench's measure of temporal flickering (Huang et al., CVPR 2024),
    which is for still clips only.

    Args:
        before, picture, after: H W 3 in [0, 1], one after another.
        to_before, to_after: H W 2 in pixels, flows from `picture` to its neighbours.
        counted: H W, which pixels of `picture` count; with none, it is 0.
    """
    expected = (warp_image(before, to_before) + warp_image(after, to_after)) / 2
    difference = np.abs(picture - expected).mean(-1)
    return float(difference[counted].mean()) if counted.any() else 0.0
