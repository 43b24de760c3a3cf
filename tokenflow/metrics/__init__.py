"""How good an edit is, a concept a file: fidelity, steadiness, change, detail, CLIP scores; and all of them together.

Knows pictures; knows no clip's file and no diffusion model. What is measured over time is fed frame by frame, so that
memory does not grow with the clip but for a few numbers a frame.
"""

from tokenflow.metrics.change import Change, mean_change
from tokenflow.metrics.clip_score import ClipScore
from tokenflow.metrics.detail import gradient_energy
from tokenflow.metrics.fidelity import psnr, ssim
from tokenflow.metrics.measures import Measures
from tokenflow.metrics.steadiness import Steadiness, flicker, warp_error

__all__ = [
    "Change",
    "ClipScore",
    "Measures",
    "Steadiness",
    "flicker",
    "gradient_energy",
    "mean_change",
    "psnr",
    "ssim",
    "warp_error",
]
