"""Temporal consistency along the motion of the source: warp error and flicker. Images are H W 3.

Motion is optical flow of the source frames, from `correspondence/flow.py`: the estimator that propagation follows too,
although here it runs at the working size and without its finest scale. An edit is thus judged, in part, by the flow it
was made with; benchmarks on drawn clips measure along the true motion instead. Light, noise and errors of the flow
leave warp error and flicker in the source itself: read an edit's figures beside the source's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from tokenflow.correspondence.flow import confidence, optical_flow, warp_image

MIN_CONFIDENCE = 0.5
"""Of the forward–backward check, from which on a pixel counts as visible in both frames."""


@dataclass(frozen=True)
class Motion:
    """Between two neighbouring frames of the source, both ways.

    Attributes:
        forward, backward: H W 2 in pixels, from the earlier frame to the later one, and from the later to the earlier.
        forward_visible, backward_visible: H W bool, which pixels of the flow's first frame are visible in its second.
    """

    forward: np.ndarray
    backward: np.ndarray
    forward_visible: np.ndarray
    backward_visible: np.ndarray

    @classmethod
    def between(cls, earlier: np.ndarray, later: np.ndarray) -> Self:
        """Estimated by optical flow of grey images, H W uint8."""
        forward, backward = optical_flow(earlier, later), optical_flow(later, earlier)
        return cls(
            forward,
            backward,
            confidence(forward, backward) >= MIN_CONFIDENCE,
            confidence(backward, forward) >= MIN_CONFIDENCE,
        )


class Steadiness:
    """Warp error and flicker of clips that should move as one source does, fed frame by frame.

    Flow is estimated once per pair of neighbours, on the source. Three frames are held at a time.
    """

    def __init__(self) -> None:
        self.over_time: dict[str, dict[str, list[float | None]]] = {}
        """By clip: `warp_error_e3` (× 10⁻³, per pair of neighbours) and `flicker` (grey levels, 0 to 255, per frame
        with two neighbours). None where a cut lies between."""
        self._grey: np.ndarray | None = None
        self._motion: Motion | None = None
        self._last: list[dict[str, np.ndarray]] = []

    def add(self, source: np.ndarray, images: Mapping[str, np.ndarray], *, cut: bool = False) -> None:
        """Measure the next frame.

        Args:
            source: of the source, for the flow, H W 3 uint8.
            images: to measure, by clip, H W 3 uint8.
            cut: whether another shot begins with it: nothing is measured between this frame and the one before.
        """
        grey = cv2.cvtColor(source, cv2.COLOR_RGB2GRAY)
        now = {name: image.astype(np.float32) / 255 for name, image in images.items()}
        motion = None if self._grey is None or cut else Motion.between(self._grey, grey)
        if self._last:
            for name, image in now.items():
                self._append("warp_error_e3", name, self._warp_error(name, image, motion))
        if len(self._last) > 1:
            for name, image in now.items():
                self._append("flicker", name, self._flicker(name, image, motion))
        self._grey, self._motion, self._last = grey, motion, [*self._last[-1:], now]

    def _warp_error(self, name: str, image: np.ndarray, motion: Motion | None) -> float | None:
        if motion is None:
            return None
        return 1e3 * warp_error(self._last[-1][name], image, motion.forward, motion.forward_visible)

    def _flicker(self, name: str, image: np.ndarray, motion: Motion | None) -> float | None:
        if motion is None or self._motion is None:
            return None
        before, middle = self._last
        visible = self._motion.backward_visible & motion.forward_visible
        return 255 * flicker(before[name], middle[name], image, self._motion.backward, motion.forward, visible)

    def _append(self, metric: str, name: str, value: float | None) -> None:
        self.over_time.setdefault(metric, {}).setdefault(name, []).append(value)


def warp_error(first: np.ndarray, second: np.ndarray, flow: np.ndarray, visible: np.ndarray) -> float:
    """Mean squared difference of two images along a flow: the temporal warping error of Lai et al., ECCV 2018.

    0 for a clip that moves exactly as its source and does not change otherwise. Papers give it × 10³.

    Args:
        first, second: H W 3 in [0, 1].
        flow: H W 2 in pixels, from `first` to `second`.
        visible: H W bool, which pixels of `first` count; if none do, the error is 0.
    """
    difference = np.square(warp_image(second, flow) - first).mean(-1)  # H W
    return float(difference[visible].mean()) if visible.any() else 0.0


def flicker(
    before: np.ndarray,
    image: np.ndarray,
    after: np.ndarray,
    to_before: np.ndarray,
    to_after: np.ndarray,
    visible: np.ndarray,
) -> float:
    """Mean absolute difference between an image and the mean of its two neighbours along the motion.

    A pixel that jumps and comes back counts in full; one that drifts evenly, as light does at dusk, does not, although
    its warp error is not 0. For a still clip that alternates between two images it is the mean absolute difference of
    neighbours: VBench's temporal flickering (Huang et al., CVPR 2024), which is defined for still clips only.

    Args:
        before, image, after: H W 3 in [0, 1], three frames in order.
        to_before, to_after: H W 2 in pixels, flows from `image` to its neighbours.
        visible: H W bool, which pixels of `image` count; if none do, it is 0.
    """
    expected = (warp_image(before, to_before) + warp_image(after, to_after)) / 2  # H W 3
    difference = np.abs(image - expected).mean(-1)  # H W
    return float(difference[visible].mean()) if visible.any() else 0.0
