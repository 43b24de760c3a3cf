"""Everything that an edit's report measures, fed frame by frame."""

from collections.abc import Iterator

import numpy as np

from tokenflow.metrics.change import Change
from tokenflow.metrics.clip_score import ClipScore
from tokenflow.metrics.detail import gradient_energy
from tokenflow.metrics.steadiness import Steadiness

OverTime = dict[str, dict[str, list[float]]]
"""Figure -> what was measured -> its values, a frame, pair or triple of neighbours each."""


class Measures:
    """An edit beside its source and its reconstruction, which are the floor that no edit can be expected to pass.

    Args:
        reconstruction: the inversion sampled back, H W 3 uint8, as many frames as the clip has.
        masks: H W in [0, 1] for each frame, 1 where the edit is meant to change something; None where not known.
        clip: scores of the edit's prompt, or None.
    """

    def __init__(
        self,
        reconstruction: Iterator[np.ndarray],
        masks: Iterator[np.ndarray] | None = None,
        clip: ClipScore | None = None,
    ) -> None:
        self._reconstruction = reconstruction
        self._masks = masks
        self._clip = clip
        self._steadiness = Steadiness()
        self._change = Change()
        self._detail: OverTime = {"detail": {}}

    def add(self, source: np.ndarray, edit: np.ndarray) -> None:
        """The next frame (H W 3 uint8), and with it the next of the reconstruction and of the masks."""
        reconstruction = next(self._reconstruction)
        mask = None if self._masks is None else next(self._masks)
        self._steadiness.add(source, {"source": source, "reconstruction": reconstruction, "edit": edit})
        self._change.add(source, edit, mask)
        of_source = gradient_energy(source / 255)
        if of_source:  # a picture of one colour has no detail to compare with
            for name, picture in (("reconstruction", reconstruction), ("edit", edit)):
                self._detail["detail"].setdefault(name, []).append(gradient_energy(picture / 255) / of_source)
        if self._clip is not None:
            self._clip.add({"source": source, "edit": edit})

    def over_time(self) -> OverTime:
        """All values so far, to four digits.

        `warp_error_e3` and `flicker` of source, reconstruction and edit (see steadiness.py); `detail` of
        reconstruction and edit relative to the source's (detail.py); `change` whole, inside and outside of the mask
        (change.py); `clip_text` and `clip_consistency` of source and edit (clip_score.py).
        """
        series = self._steadiness.over_time | self._detail | self._change.over_time
        if self._clip is not None:
            series |= self._clip.over_time
        return {
            figure: {name: [float(f"{value:.4g}") for value in values] for name, values in by_name.items()}
            for figure, by_name in series.items()
        }

    def figures(self) -> dict[str, dict[str, float]]:
        """The mean over time of each, by the same names; those that a clip is too short for are left out."""
        return {
            figure: {name: float(f"{np.mean(values):.4g}") for name, values in by_name.items()}
            for figure, by_name in self.over_time().items()
            if by_name
        }
