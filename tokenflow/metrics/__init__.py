"""How good an edit is, one concept per file: fidelity, steadiness, change, detail and CLIP scores, and all together.

Images are uint8 or [0, 1] arrays. Metrics over time are fed frame by frame and hold a few numbers per frame.
"""

from tokenflow.metrics.change import Change, mean_change
from tokenflow.metrics.clip_score import ClipScore
from tokenflow.metrics.detail import gradient_energy
from tokenflow.metrics.edit_metrics import EditMetrics
from tokenflow.metrics.fidelity import psnr, ssim
from tokenflow.metrics.steadiness import Steadiness, flicker, warp_error
from tokenflow.metrics.verdict import Verdict, judge
from tokenflow.metrics.words_seen import WordsSeen, find_classifier

__all__ = [
    "Change",
    "ClipScore",
    "EditMetrics",
    "Steadiness",
    "Verdict",
    "WordsSeen",
    "find_classifier",
    "flicker",
    "gradient_energy",
    "judge",
    "mean_change",
    "psnr",
    "ssim",
    "warp_error",
]
