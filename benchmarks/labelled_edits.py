"""The edits on which verdicts are chosen and tested: good ones, and ones made to fail in each of the ways.

Thresholds were chosen on `CHOSEN`, edits of the clips that defaults are tuned on. `TESTED` are edits of the clips of
the quality benchmark with other settings, added after the thresholds were fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from benchmarks.cells import Cell
from benchmarks.clips import BENCHMARK, KINDS, TUNING, Case
from benchmarks.truth import Grainy

MODES = ("pnp", "sdedit", "controlnet")

FREE = {"mode": "sdedit", "sdedit.strength": 1.0, "sdedit.noise": "shared"}

FAILING: tuple[dict[str, Any], ...] = (
    {"mode": "sdedit", "sdedit.strength": 0.3},
    {"mode": "sdedit", "sdedit.strength": 0.5},
    {"mode": "pnp", "guidance_scale": 1.0},
    FREE,
    {"mode": "sdedit", "steps": 3},
    {"mode": "pnp", "variation": 1.0},
    {"mode": "pnp", "guidance_scale": 30.0},
    {"mode": "sdedit", "keyframe_interval": 12, "propagate_edit_until": 1.0},
    {**FREE, "steps": 3, "guidance_scale": 1.0, "propagation": "none"},
)
"""Settings far from the defaults, each for two edits of `CHOSEN`."""

FAILING_OTHERWISE: tuple[dict[str, Any], ...] = (
    {"mode": "sdedit", "sdedit.strength": 0.4},
    {"mode": "pnp", "guidance_scale": 1.5},
    {"mode": "sdedit", "sdedit.strength": 0.9, "sdedit.noise": "shared"},
    {"mode": "pnp", "steps": 3},
    {"mode": "controlnet", "variation": 0.8},
    {"mode": "controlnet", "guidance_scale": 20.0},
    {"mode": "pnp", "pnp.features_until": 0.0, "pnp.attention_until": 0.0},
    {"mode": "controlnet", "controlnet.scale": 0.2, "controlnet.noise": "shared"},
    {"mode": "sdedit", "guidance_scale": 1.0},
    {**FREE, "steps": 5, "guidance_scale": 2.0},
)
"""Others, each for one edit of `TESTED`."""


@dataclass(frozen=True)
class LabelledEdit:
    """An edit to be labelled and judged.

    Attributes:
        cell: the edit, with its reconstruction.
        smear: standard deviation in pixels of a Gaussian over every frame, for an edit that lost its detail; 0 for the
            edit as it is.
    """

    cell: Cell
    smear: float = 0.0

    def images(self) -> np.ndarray:
        """The frames, f H W 3 uint8."""
        images = self.cell.images()
        return np.stack([cv2.GaussianBlur(each, (0, 0), self.smear) for each in images]) if self.smear else images


def by_default(cases: Sequence[Case]) -> list[LabelledEdit]:
    """Each case in each mode with its defaults."""
    return [_edit(case, {"mode": mode}) for case in cases for mode in MODES]


def failing(cases: Sequence[Case], settings: Sequence[dict[str, Any]], count: int) -> list[LabelledEdit]:
    """One or two of the cases with each of some settings, going through the cases in turn."""
    return [
        _edit(cases[(2 * place + offset) % len(cases)], each)
        for place, each in enumerate(settings)
        for offset in range(count)
    ]


def refusing(cases: Sequence[Case]) -> list[LabelledEdit]:
    """Cases whose negative prompt is the prompt itself."""
    return [_edit(case, {"mode": "pnp", "negative_prompt": case.truth.prompts[1]}) for case in cases]


def grainy(cases: Sequence[Case]) -> list[LabelledEdit]:
    """At most two cases under grain that the autoencoder loses."""
    return [
        _edit(
            replace(case, clip=f"{case.clip}_grainy", truth=Grainy(case.truth.clip, case.truth.target, grain)),
            {"mode": "pnp"},
        )
        for case, grain in zip(cases, (25.0, 50.0), strict=False)
    ]


def smeared(cases: Sequence[Case]) -> list[LabelledEdit]:
    """Two cases whose edit is smeared, a little and more."""
    return [replace(_edit(case, {"mode": "pnp"}), smear=smear) for case, smear in zip(cases, (2.0, 4.0), strict=True)]


def _edit(case: Case, settings: dict[str, Any]) -> LabelledEdit:
    return LabelledEdit(Cell(case, tuple(settings.items()), checked=True))


CHOSEN = [
    *by_default(TUNING),
    *failing(TUNING, FAILING, 2),
    *refusing(TUNING[:2]),
    *grainy(TUNING[2:4]),
    *smeared(TUNING[4:6]),
]

FIRST = [next(case for case in BENCHMARK if case.kind == kind) for kind in KINDS]
OTHERS = [case for case in BENCHMARK if case not in FIRST]

TESTED = [
    *by_default(FIRST[:3]),
    *failing(OTHERS, FAILING_OTHERWISE, 1),
    *refusing(OTHERS[:1]),
    *grainy(OTHERS[2:3]),
    *smeared(FIRST[:2]),
]
