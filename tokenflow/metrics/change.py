"""How much an edit changed, and where: inside and outside what it was meant to change.

Outside, less is better (what PIE-Bench calls background preservation: Ju et al., ICLR 2024).
Inside, none at all is an edit that did nothing; beyond that, more is not better.
"""

import numpy as np


class Change:
    """The difference between an edit and its source, frame by frame."""

    def __init__(self) -> None:
        self.over_time: dict[str, dict[str, list[float | None]]] = {"change": {}}
        """`change` (mean absolute difference, in grey levels of 255): `whole`, and `inside` and `outside` of masks;
        None for a frame that has nothing there."""

    def add(self, source: np.ndarray, edit: np.ndarray, mask: np.ndarray | None = None) -> None:
        """The next frame.

        Args:
            source, edit: H W 3 uint8.
            mask: H W in [0, 1], 1 where the edit is meant to change something; None where that is not known.
        """
        shares = {"whole": np.ones(source.shape[:2])}
        if mask is not None:
            shares |= {"inside": mask, "outside": 1 - mask}
        for name, share in shares.items():
            value = mean_change(source, edit, share) if share.any() else None
            self.over_time["change"].setdefault(name, []).append(value)


def mean_change(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> float:
    """Mean absolute difference of two pictures (H W 3) over pixels that count as much as `share` (H W, ≥ 0) says."""
    difference = np.abs(first.astype(np.float64) - second).mean(-1)
    return float((difference * share).sum() / share.sum())
