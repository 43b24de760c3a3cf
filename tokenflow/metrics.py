"""How good pictures are: fidelity to a reference, and steadiness along the motion. Pure; knows no file and no model.

Pictures are f 3 H W in [0, 1] unless a docstring says otherwise.
"""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from kornia.metrics import ssim as ssim_map
from torch import Tensor

from tokenflow.correspondence.flow import confidence, optical_flow, sample

CONFIRMED = 0.5
"""A pixel counts in the warp error if its flow is confirmed by the one back at least this far."""


def psnr(pictures: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture, in dB: f. Infinite where both are the same."""
    return -10 * torch.log10((pictures - reference).square().mean(dim=(1, 2, 3)))


def ssim(pictures: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each picture in [-1, 1] (Wang et al., 2004; Gaussian window of 11): f."""
    return ssim_map(pictures, reference, window_size=11).mean(dim=(1, 2, 3))


class WarpError:
    """Mean squared difference between neighbouring frames along the source's motion (Lai et al., ECCV 2018).

    For each pair of neighbours, the later picture is read where the source's optical flow leads to from the earlier
    one, over pixels whose flow there and back agrees. Pictures are given one after another, so that memory does not
    grow with the clip. 0 is a clip that moves exactly as its source and changes in no other way; the source's own
    error is the floor that flow and light leave.
    """

    def __init__(self) -> None:
        self._errors: dict[str, list[float]] = {}
        self._before: tuple[np.ndarray, dict[str, np.ndarray]] | None = None

    def add(self, source: np.ndarray, pictures: Mapping[str, np.ndarray]) -> None:
        """The next frame: the source, from which flow is taken, and what is measured by name (H W 3 uint8 all)."""
        grey = cv2.cvtColor(source, cv2.COLOR_RGB2GRAY)
        now = {name: picture.astype(np.float32) / 255 for name, picture in pictures.items()}
        if self._before is not None:
            grey_before, before = self._before
            flow = optical_flow(grey_before, grey)
            counted = confidence(flow, optical_flow(grey, grey_before)) >= CONFIRMED
            for name, picture in now.items():
                error = warp_error(before[name], picture, flow, counted)
                self._errors.setdefault(name, []).append(error)
        self._before = grey, now

    def errors(self) -> dict[str, list[float]]:
        """By name, the error of each pair of neighbouring frames."""
        return self._errors


def warp_error(first: np.ndarray, second: np.ndarray, flow: np.ndarray, counted: np.ndarray) -> float:
    """Mean squared difference of two pictures along a flow.

    Args:
        first, second: H W 3 in [0, 1].
        flow: H W 2 in pixels, from `first` to `second`.
        counted: H W, which pixels of `first` count; with none, the error is 0.
    """
    difference = np.square(sample(second, flow) - first).mean(-1)
    return float(difference[counted].mean()) if counted.any() else 0.0
