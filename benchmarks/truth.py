"""Drawn clips with their ground truth: the perfect edit, exact flow, occlusions. And figures against it."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from tokenflow.metrics import gradient_energy, warp_error
from tools.mini_sd.build_clips import CLIPS, PERFECT_EDITS
from tools.mini_sd.captions import caption
from tools.mini_sd.clip import MIXED, SHADE, Clip, warp
from tools.mini_sd.words import KINDS

ON_OBJECT = frozenset({"object", "material"})
OUTLINE = 8
"""Pixels from the object's outline within which an edit's may differ: a token of the layers that are injected."""


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
        """The source's prompt, and the edit's."""
        return caption(self.clip.start.words), caption(self.target.start.words)

    @property
    def changed(self) -> frozenset[str]:
        """The kinds of words that the edit changes."""
        before, after = self.clip.start.words, self.target.start.words
        return frozenset(kind for kind in KINDS if getattr(before, kind) != getattr(after, kind))

    @cached_property
    def meant(self) -> np.ndarray:
        """f H W, True where the edit is meant to change something.

        An edit of an object or its material: where the object is before or after, with its edge, and where its shadow
        differs. Of the background: everything but the object. Of light or style: everything.
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
    def _flows(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each pair of neighbours: the exact flow, where it is visible in both source and target, and where that is
        away from both outlines."""
        return [self._flow(frame) for frame in range(self.clip.frames - 1)]

    def _flow(self, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hidden = self.clip.occluded(frame, frame + 1) | self.target.occluded(frame, frame + 1)
        before, after = (clip.render(frame).mask > 0.5 for clip in (self.clip, self.target))
        seen = ~hidden & (before == after)
        return self.clip.flow(frame, frame + 1), seen, seen & ~_near_outline(before) & ~_near_outline(after)

    def figures(self, edited: np.ndarray) -> dict[str, float]:
        """PSNR to the perfect edit (dB), warp errors along exact flow (×1e-3), detail relative to the perfect edit's.

        The warp error is large where an edit's outline differs from the perfect edit's, however steady it is: one side
        of it moves with the object, the other with the ground. `warp_error_away_e3` leaves these places out.

        Args:
            edited: f H W 3 uint8.
        """
        images = edited / 255.0
        everywhere, away_from_outlines = self.warp_errors(edited).mean(0)
        return {
            "perfect_psnr": _psnr(images, self.perfect),
            "warp_error_e3": float(everywhere),
            "warp_error_away_e3": float(away_from_outlines),
            "detail": gradient_energy(images) / gradient_energy(self.perfect),
        }

    def warp_errors(self, edited: np.ndarray) -> np.ndarray:
        """Warp errors along exact flow (×1e-3), of each pair of neighbours: everywhere, and away from outlines.

        Args:
            edited: f H W 3 uint8.

        Returns:
            f-1 2.
        """
        images = (edited / 255.0).astype(np.float32)
        errors = [
            [warp_error(images[frame], images[frame + 1], flow, counted) for counted in (seen, away)]
            for frame, (flow, seen, away) in enumerate(self._flows)
        ]
        return 1e3 * np.array(errors)

    def averaged(self, edited: np.ndarray) -> np.ndarray:
        """Every frame averaged with all others along the perfect edit's own motion, where they show the same place.

        This needs the perfect edit, so no method can do it. It shows how much closer the frames would come by agreeing
        alone, with the mistakes that all of them share left in.

        Args:
            edited: f H W 3 uint8.

        Returns:
            f H W 3 uint8.
        """
        images = edited.astype(np.float32)
        result = np.empty_like(edited)
        for frame in range(len(images)):
            total, count = images[frame].copy(), np.ones((*images.shape[1:3], 1), np.float32)
            for other in set(range(len(images))) - {frame}:
                seen = ~self.target.occluded(frame, other)[..., None]
                total += seen * warp(images[other], self.target.flow(frame, other))
                count += seen
            result[frame] = (total / count).round().astype(np.uint8)
        return result

    def figures_by_place(self, edited: np.ndarray) -> dict[str, float | None]:
        """PSNR (dB) to the perfect edit inside and outside of what is meant to change, and to the source outside.

        The last is how well the source is preserved. Both outside figures are None if everything is meant to change.

        Args:
            edited: f H W 3 uint8.
        """
        images, inside = edited / 255.0, self.meant
        return {
            "perfect_psnr_inside": _psnr(images, self.perfect, inside),
            "perfect_psnr_outside": None if inside.all() else _psnr(images, self.perfect, ~inside),
            "preservation_psnr": None if inside.all() else _psnr(images, self.frames / 255.0, ~inside),
        }


@dataclass(frozen=True)
class Resized(Truth):
    """A drawn clip whose frames are brought to another size; its perfect edit is not.

    Attributes:
        side: pixels along each side.
    """

    side: int

    @cached_property
    def frames(self) -> np.ndarray:
        """The source, f H W 3 uint8."""
        size = self.side, self.side
        smaller = self.side < self.clip.render(0).picture.shape[0]
        how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        return np.stack([cv2.resize(frame, size, interpolation=how) for frame in Truth.frames.func(self)])


@dataclass(frozen=True)
class Grainy(Truth):
    """A drawn clip under film grain, in source and perfect edit alike, which an autoencoder of drawn scenes loses.

    Attributes:
        grain: standard deviation of the grain, of 255.
    """

    grain: float

    @cached_property
    def frames(self) -> np.ndarray:
        """The source, f H W 3 uint8."""
        return (np.clip(Truth.frames.func(self) / 255 + self._noise, 0, 1) * 255).round().astype(np.uint8)

    @cached_property
    def perfect(self) -> np.ndarray:
        """The perfect edit, f H W 3 in [0, 1]."""
        return np.clip(Truth.perfect.func(self) + self._noise, 0, 1)

    @cached_property
    def _noise(self) -> np.ndarray:
        """f H W 1, another in every frame."""
        shape = (*Truth.frames.func(self).shape[:3], 1)
        return np.random.default_rng(0).normal(0, self.grain / 255, shape)


def _near_outline(inside: np.ndarray) -> np.ndarray:
    """H W, True up to OUTLINE pixels from the border of a mask H W."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * OUTLINE + 1, 2 * OUTLINE + 1))
    return cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, disc) > 0


def _psnr(images: np.ndarray, reference: np.ndarray, where: np.ndarray | None = None) -> float:
    """PSNR of a clip (f H W 3 in [0, 1]) as one image, over all pixels or those of a mask (f H W)."""
    errors = np.square(images - reference)
    error = (errors if where is None else errors[where]).mean()
    return float(-10 * np.log10(error)) if error else np.inf


def shipped(name: str, edit: str) -> Truth:
    """A clip of data/clips/ with one of its perfect edits."""
    clip = CLIPS[name]
    return Truth(clip, clip.with_words(**PERFECT_EDITS[name][edit]))
