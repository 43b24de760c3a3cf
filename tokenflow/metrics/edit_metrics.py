"""All metrics of an edit's report, fed frame by frame."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from tokenflow.metrics.change import Change
from tokenflow.metrics.clip_score import ClipScore
from tokenflow.metrics.detail import gradient_energy
from tokenflow.metrics.outlines import Outlines
from tokenflow.metrics.steadiness import Steadiness
from tokenflow.metrics.words_seen import WordsSeen

OverTime = dict[str, dict[str, list[float | None]]]
"""Metric -> what it was measured on -> a value per frame, pair or triple of neighbours; None where it is undefined."""


class EditMetrics:
    """Metrics of an edit, of its source, and of the reconstruction that the unedited inversion gives.

    Args:
        reconstruction: the inversion sampled back: H W 3 uint8 per frame. None if there is none; its series are then
            left out.
        masks: H W in [0, 1] per frame, 1 where the edit is meant to change something; None if unknown.
        clip_score: scores against the edit's prompt, or None.
        words_seen: looks for the words of the edit's prompt, or None.
        cuts: the frames at which another shot begins; nothing is measured over a cut.
    """

    def __init__(
        self,
        reconstruction: Iterator[np.ndarray] | None = None,
        masks: Iterator[np.ndarray] | None = None,
        clip_score: ClipScore | None = None,
        words_seen: WordsSeen | None = None,
        cuts: Collection[int] = (),
    ) -> None:
        self._reconstruction = reconstruction
        self._masks = masks
        self._clip_score = clip_score
        self._words_seen = words_seen
        self._cuts = cuts
        self._count = 0
        self._steadiness = Steadiness()
        self._change = Change()
        self._outlines = Outlines()
        self._energy: dict[str, list[float]] = {}

    def add(self, source: np.ndarray, edit: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Measure the next frame (H W 3 uint8), with the next of the reconstruction and of the masks.

        Where no masks were given, `mask` is the one of this frame: H W in [0, 1], or None.
        """
        cut = self._count in self._cuts
        self._count += 1
        images = {"source": source}
        if self._reconstruction is not None:
            images["reconstruction"] = next(self._reconstruction)
        images["edit"] = edit
        mask = mask if self._masks is None else next(self._masks)
        self._steadiness.add(source, images, cut=cut)
        self._change.add(source, edit, mask)
        self._outlines.add(source, {name: image for name, image in images.items() if name != "source"})
        for name, image in images.items():
            self._energy.setdefault(name, []).append(gradient_energy(image / 255))
        if self._clip_score is not None:
            self._clip_score.add({"source": source, "edit": edit}, cut=cut)
        if self._words_seen is not None:
            self._words_seen.add(source, edit)

    def over_time(self) -> OverTime:
        """All values so far, to four significant digits.

        `warp_error_e3` and `flicker` of source, reconstruction and edit (steadiness.py); `detail` of reconstruction
        and edit relative to the source's (detail.py), None for a source of a single colour; `change` of the whole
        image, of its most changed part, and inside and outside of the mask (change.py); `outlines` of reconstruction
        and edit (outlines.py); `words` of source and edit (words_seen.py); `clip_text` and `clip_consistency` of
        source and edit (clip_score.py).
        """
        judged = [each.over_time for each in (self._words_seen, self._clip_score) if each is not None]
        series: dict[str, Mapping[str, Sequence[float | None]]] = {
            **self._steadiness.over_time,
            **self._detail(),
            **self._change.over_time,
            **self._outlines.over_time,
            **{metric: by_name for each in judged for metric, by_name in each.items()},
        }
        return {
            metric: {name: [value and _rounded(value) for value in values] for name, values in by_name.items()}
            for metric, by_name in series.items()
        }

    def figures(self) -> dict[str, dict[str, float]]:
        """One value for the whole clip, under the same names; those that are undefined are left out.

        Means over time. `detail` is the energy of all frames relative to that of all source frames: in a mean of
        ratios, a frame of almost one colour would outweigh all others.
        """
        means = {
            metric: {
                name: _mean(values) for name, values in by_name.items() if any(each is not None for each in values)
            }
            for metric, by_name in self.over_time().items()
        }
        if means["detail"]:
            source = sum(self._energy["source"])
            means["detail"] = {name: _rounded(sum(self._energy[name]) / source) for name in means["detail"]}
        return {metric: by_name for metric, by_name in means.items() if by_name}

    def _detail(self) -> OverTime:
        """Gradient energy relative to the source's."""
        energies = dict(self._energy)
        source = energies.pop("source", [])
        return {
            "detail": {
                name: [value / other if other else None for value, other in zip(values, source, strict=True)]
                for name, values in energies.items()
            }
        }


def _rounded(value: float) -> float:
    """To four significant digits."""
    return float(f"{value:.4g}")


def _mean(values: list[float | None]) -> float:
    return _rounded(float(np.mean([value for value in values if value is not None])))
