"""What a ControlNet is shown of a frame: Canny edges, or what one of controlnet-aux's detectors sees in it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from tokenflow.errors import ModelNotFoundError
from tokenflow.models.checkpoints.quiet import quiet
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason

REPOSITORY = "lllyasviel/Annotators"
"""On the Hub, with the weights of all detectors."""

RESOLUTION = 512
"""Pixels of the shorter side at which detectors look, as the authors of ControlNet ran them."""

Detector = Callable[[np.ndarray], np.ndarray]
"""A frame H W 3 uint8 -> what the ControlNet is shown, H W 3 uint8."""


@dataclass(frozen=True)
class Kind:
    """A detector of controlnet-aux.

    Attributes:
        class_name: there.
        options: of a call.
        words: how words in the names of ControlNets begin that were trained on its images.
        union_type: its number among the images of union ControlNets.
    """

    class_name: str
    words: frozenset[str]
    union_type: int
    options: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "canny": Kind("CannyDetector", frozenset({"canny", "edge"}), 3),
    "softedge": Kind("HEDdetector", frozenset({"softedge", "hed", "pidi"}), 2),
    "lineart": Kind("LineartDetector", frozenset({"lineart"}), 3),
    "mlsd": Kind("MLSDdetector", frozenset({"mlsd"}), 3),
    "depth": Kind("MidasDetector", frozenset({"depth", "zoedepth"}), 1),
    "normal": Kind("NormalBaeDetector", frozenset({"normal"}), 4),
    "openpose": Kind("OpenposeDetector", frozenset({"openpose", "pose", "dwpose"}), 0),
    "scribble": Kind("HEDdetector", frozenset({"scribble", "sketch"}), 2, {"scribble": True}),
}
"""By `edit.controlnet.detector`. Union types are those of ControlNetPlus (xinsir/controlnet-union-sdxl-1.0)."""

OTHER_WORDS = frozenset(
    {"blur", "brightness", "color", "face", "inpaint", "ip2p", "mediapipe", "qr", "recolor", "seg", "shuffle", "tile"}
)
"""How words begin in the names of ControlNets that were trained on what no detector here makes."""


def load_detector(name: str, device: torch.device) -> Detector:
    """A detector of controlnet-aux, with its weights from the Hub on first use.

    Raises:
        ModelNotFoundError: the weights are not in the local cache, and the Hub does not deliver them.
    """
    import controlnet_aux

    kind = KINDS[name]
    try:
        with quiet():
            network = getattr(controlnet_aux, kind.class_name).from_pretrained(REPOSITORY).to(device)
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(
            f"the detector {name!r} needs weights from {REPOSITORY}, which cannot be downloaded ({hub_reason(error)}); "
            "connect once, or set edit.controlnet.detector to canny"
        ) from error

    def detect(image: np.ndarray) -> np.ndarray:
        found = network(
            image, detect_resolution=RESOLUTION, image_resolution=RESOLUTION, output_type="np", **kind.options
        )
        height, width = image.shape[:2]
        return cv2.resize(np.asarray(found), (width, height), interpolation=cv2.INTER_AREA)

    return detect


def canny_edges(image: np.ndarray, thresholds: tuple[float, float]) -> np.ndarray:
    """The Canny edges of a frame (H W 3 uint8), white on black: H W 3 uint8."""
    edges = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), *thresholds)
    return np.repeat(edges[..., None], 3, axis=2)
