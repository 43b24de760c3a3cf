"""Drawn clips with what only drawing gives: the perfect edit, exact flow, what is hidden. And figures against it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tokenflow.metrics import gradient_energy, warp_error
from tools.mini_sd.build_clips import CLIPS, PERFECT_EDITS
from tools.mini_sd.captions import caption
from tools.mini_sd.clip import MIXED, SHADE, Clip
from tools.mini_sd.words import KINDS

ON_OBJECT = frozenset({"object", "material"})


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

    @property
    def changed(self) -> frozenset[str]:
        """The kinds of words that the edit changes."""
        before, after = self.clip.start.words, self.target.start.words
        return frozenset(kind for kind in KINDS if getattr(before, kind) != getattr(after, kind))

    @cached_property
    def meant(self) -> np.ndarray:
        """f H W, true where the edit is meant to change something.

        Of an object or its material: where the object is before or after, with its edge and where its shadow differs.
        Of the background: everything but the object. Of light and style: everything.
        """
        everywhere = np.ones(self.frames.shape[:3], bool)
        if not (self.changed <= ON_OBJECT or self.changed == {"background"}):
            return everywhere
        drawn = [(self.clip.render(frame), self.target.render(frame)) for frame in range(self.clip.frames)]
        if self.changed == {"background"}:
            return np.stack([before.mask < 1 - MIXED for before, _ in drawn])
        return np.stack(
            [
                (np.maximum(before.mask, after.mask) > MIXED) | (np.abs(before.shadow - after.shadow) > SHADE)
                for before, after in drawn
            ]
        )

    @cached_property
    def _flows(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each pair of neighbours the exact flow, and where it can be followed in source and target alike."""
        return [self._flow(frame) for frame in range(self.clip.frames - 1)]

    def _flow(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        hidden = self.clip.occluded(frame, frame + 1) | self.target.occluded(frame, frame + 1)
        before, after = (clip.render(frame).mask > 0.5 for clip in (self.clip, self.target))
        return self.clip.flow(frame, frame + 1), ~hidden & (before == after)

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
            "perfect_psnr": _psnr(pictures, self.perfect),
            "warp_error_e3": 1e3 * float(np.mean(errors)),
            "detail": gradient_energy(pictures) / gradient_energy(self.perfect),
        }

    def figures_by_place(self, edited: np.ndarray) -> dict[str, float | None]:
        """PSNR (dB) to the perfect edit inside and outside of what is meant to change; outside to the source as well.

        The last is how well the source is preserved. There is no outside where everything is meant to change: None.

        Args:
            edited: f H W 3 uint8.
        """
        pictures, inside = edited / 255.0, self.meant
        return {
            "perfect_psnr_inside": _psnr(pictures, self.perfect, inside),
            "perfect_psnr_outside": None if inside.all() else _psnr(pictures, self.perfect, ~inside),
            "preservation_psnr": None if inside.all() else _psnr(pictures, self.frames / 255.0, ~inside),
        }


def _psnr(pictures: np.ndarray, reference: np.ndarray, where: np.ndarray | None = None) -> float:
    """Of a clip (f H W 3 in [0, 1]) as one picture, over all pixels or those (f H W) given."""
    errors = np.square(pictures - reference)
    error = (errors if where is None else errors[where]).mean()
    return float(-10 * np.log10(error)) if error else np.inf


def shipped(name: str, edit: str) -> Truth:
    """A clip of data/clips/ with one of its perfect edits."""
    clip = CLIPS[name]
    return Truth(clip, clip.with_words(**PERFECT_EDITS[name][edit]))
