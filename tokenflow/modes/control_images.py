"""The images that ControlNets are shown of a clip, found once and kept for every step, and every edit, of the clip."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenflow.config import ControlUnit
from tokenflow.models.detectors import Detector, canny_edges, load_detector
from tokenflow.modes.source import InvertedClip

_KEPT: WeakKeyDictionary[Any, dict[Any, "ControlImages"]] = WeakKeyDictionary()
"""By inversion, whose frames never change; then by detector."""


class ControlImages:
    """What a detector sees in the frames of a clip.

    Args:
        source: the clip.
        detect: the detector.
    """

    def __init__(self, source: InvertedClip, detect: Detector) -> None:
        self._frames = source.frames
        self._detect = detect
        self._encoded: dict[int, np.ndarray] = {}

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """Images f 3 H W in [0, 1] of some frames."""
        return torch.stack([self._image(index) for index in indices])

    def _image(self, index: int) -> Tensor:
        """One image, 3 H W: detected the first time, and kept as a PNG, since a clip may be long."""
        if index not in self._encoded:
            self._encoded[index] = cv2.imencode(".png", self._detect(np.asarray(self._frames[index])))[1]
        image = cv2.imdecode(self._encoded[index], cv2.IMREAD_COLOR)
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def control_images(source: InvertedClip, unit: ControlUnit) -> ControlImages:
    """The images that a ControlNet is shown of a clip.

    Raises:
        ModelNotFoundError: the detector's weights are not available.
    """
    kept = _KEPT.setdefault(source.inversion, {})
    key = (unit.detector, unit.canny_thresholds if unit.detector == "canny" else None)
    if key not in kept:
        kept[key] = ControlImages(source, detector_of(unit, source.model.device))
    return kept[key]


def detector_of(unit: ControlUnit, device: torch.device) -> Detector:
    """The detector that a ControlNet's settings name.

    Raises:
        ModelNotFoundError: its weights are not available.
    """
    if unit.detector == "canny":
        return partial(canny_edges, thresholds=unit.canny_thresholds)
    return _loaded(unit.detector, device)


_loaded = cache(load_detector)
