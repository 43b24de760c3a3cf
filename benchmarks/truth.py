"""Drawn clips with what only drawing gives: the perfect edit, exact flow, what is hidden. And figures against it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tokenflow.metrics import gradient_energy, warp_error
from tools.mini_sd.build_clips import CLIPS, PERFECT_EDITS
from tools.mini_sd.captions import caption
from tools.mini_sd.clip import Clip


@dataclass(frozen=True)
class Truth:
    """A drawn clip and one edit of it.

    Attributes:
        clip: the source.
        target: the same motion in the edit's words.
    """

    clip: Clip
    target: Clip

    @cached_property
    def frames(self) -> np.ndarray:
        """The source, f H W 3 uint8."""
        return (self.clip.pictures() * 255).round().astype(np.uint8)

    @cached_property
    def perfect(self) -> np.ndarray:
        """The perfect edit, f H W 3 in [0, 1]."""
        return self.target.pictures()

    @property
    def prompts(self) -> tuple[str, str]:
        """What the source shows, and what the edit asks for."""
        return caption(self.clip.start.words), caption(self.target.start.words)

    @cached_property
    def _flows(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each pair of neighbours the exact flow, and where it can be followed in source and target alike."""
        return [
            (
                self.clip.flow(frame, frame + 1),
                ~(self.clip.occluded(frame, frame + 1) | self.target.occluded(frame, frame + 1)),
            )
            for frame in range(self.clip.frames - 1)
        ]

    def figures(self, edited: np.ndarray) -> dict[str, float]:
        """PSNR to the perfect edit (dB), warp error along exact flow (×1e-3), detail relative to the perfect edit's.

        Args:
            edited: f H W 3 uint8.
        """
        pictures = edited / 255.0
        errors = [
            warp_error(pictures[frame].astype(np.float32), pictures[frame + 1].astype(np.float32), flow, seen)
            for frame, (flow, seen) in enumerate(self._flows)
        ]
        return {
            "perfect_psnr": float(-10 * np.log10(np.square(pictures - self.perfect).mean())),
            "warp_error_e3": 1e3 * float(np.mean(errors)),
            "detail": gradient_energy(pictures) / gradient_energy(self.perfect),
        }


def shipped(name: str, edit: str) -> Truth:
    """A clip of data/clips/ with one of its perfect edits."""
    clip = CLIPS[name]
    return Truth(clip, clip.with_words(**PERFECT_EDITS[name][edit]))
