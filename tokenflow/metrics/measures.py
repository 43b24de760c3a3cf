"""Everything that an edit's report measures, fed frame by frame."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tokenflow.metrics.change import Change
from tokenflow.metrics.clip_score import ClipScore
from tokenflow.metrics.detail import gradient_energy
from tokenflow.metrics.steadiness import Steadiness

OverTime = dict[str, dict[str, list[float | None]]]
"""Figure -> what was measured -> its values, a frame, pair or triple of neighbours each; None where there is none."""


class Measures:
    """Metrics of an edit, of its source, and of the reconstruction that the unedited inversion gives.

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
        self._energy: dict[str, list[float]] = {"source": [], "reconstruction": [], "edit": []}

    def add(self, source: np.ndarray, edit: np.ndarray) -> None:
        """The next frame (H W 3 uint8), and with it the next of the reconstruction and of the masks."""
        reconstruction = next(self._reconstruction)
        mask = None if self._masks is None else next(self._masks)
        self._steadiness.add(source, {"source": source, "reconstruction": reconstruction, "edit": edit})
        self._change.add(source, edit, mask)
        for name, picture in zip(self._energy, (source, reconstruction, edit), strict=True):
            self._energy[name].append(gradient_energy(picture / 255))
        if self._clip is not None:
            self._clip.add({"source": source, "edit": edit})

    def over_time(self) -> OverTime:
        """All values so far, to four digits.

        `warp_error_e3` and `flicker` of source, reconstruction and edit (see steadiness.py); `detail` of
        reconstruction and edit relative to the source's (detail.py), None for a source of one colour; `change` whole,
        inside and outside of the mask (change.py); `clip_text` and `clip_consistency` of source and edit
        (clip_score.py).
        """
        of_clip = {} if self._clip is None else self._clip.over_time
        series: dict[str, Mapping[str, Sequence[float | None]]] = {
            **self._steadiness.over_time,
            **self._detail(),
            **self._change.over_time,
            **of_clip,
        }
        return {
            figure: {name: [value and _rounded(value) for value in values] for name, values in by_name.items()}
            for figure, by_name in series.items()
        }

    def figures(self) -> dict[str, dict[str, float]]:
        """Of the whole clip, by the same names: means over time; of detail all frames' energy relative to all of the
        source's, since a frame of next to one colour would outweigh all others. What has no value is left out."""
        series = self.over_time()
        means = {
            figure: {
                name: _mean(values) for name, values in by_name.items() if any(each is not None for each in values)
            }
            for figure, by_name in series.items()
        }
        if means["detail"]:
            of_source = sum(self._energy["source"])
            means["detail"] = {name: _rounded(sum(self._energy[name]) / of_source) for name in means["detail"]}
        return {figure: by_name for figure, by_name in means.items() if by_name}

    def _detail(self) -> OverTime:
        of_source = self._energy["source"]
        return {
            "detail": {
                name: [
                    value / other if other else None for value, other in zip(self._energy[name], of_source, strict=True)
                ]
                for name in ("reconstruction", "edit")
            }
        }


def _rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def _mean(values: list[float | None]) -> float:
    return _rounded(float(np.mean([value for value in values if value is not None])))
