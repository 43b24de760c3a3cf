"""The edits on which verdicts are chosen and tested: good ones, and ones made to fail in each of the ways.

Thresholds were chosen on `CHOSEN`, edits of the clips that defaults are tuned on; `TESTED` are edits of the clips of
the quality benchmark, added after the thresholds were fixed.
"""

from dataclasses import replace
from typing import Any

from benchmarks.cells import Cell
from benchmarks.clips import TUNING, Case
from benchmarks.truth import Grainy

FAILING: dict[str, dict[str, Any]] = {
    "little noise": {"mode": "sdedit", "sdedit.strength": 0.3},
    "less noise": {"mode": "sdedit", "sdedit.strength": 0.5},
    "no guidance": {"mode": "pnp", "guidance_scale": 1.0},
    "free": {"mode": "sdedit", "sdedit.strength": 1.0, "sdedit.noise": "shared"},
    "two steps": {"mode": "sdedit", "steps": 3},
    "all varied": {"mode": "pnp", "variation": 1.0},
    "too much guidance": {"mode": "pnp", "guidance_scale": 30.0},
    "no outlines": {"mode": "controlnet", "controlnet.scale": 0.0, "controlnet.noise": "shared"},
    "one keyframe": {"mode": "sdedit", "keyframe_interval": 12, "propagate_edit_until": 1.0},
}
"""Settings far from the defaults, by what is wrong with them."""

MODES = ("pnp", "sdedit", "controlnet")


def by_default(cases: list[Case]) -> list[Cell]:
    """Each case in each mode with its defaults."""
    return [Cell(case, (("mode", mode),), checked=True) for case in cases for mode in MODES]


def failing(cases: list[Case], shift: int) -> list[Cell]:
    """Each failing setting on two of the cases, which ones depending on `shift`."""
    chosen = []
    for place, settings in enumerate(FAILING.values()):
        for offset in (0, 1):
            case = cases[(2 * place + offset + shift) % len(cases)]
            chosen.append(Cell(case, tuple(settings.items()), checked=True))
    return chosen


def refusing(cases: list[Case]) -> list[Cell]:
    """Cases whose negative prompt is the prompt itself."""
    return [Cell(case, (("mode", "pnp"), ("negative_prompt", case.truth.prompts[1])), checked=True) for case in cases]


def grainy(cases: list[Case]) -> list[Cell]:
    """Cases under grain that the autoencoder loses."""
    return [
        Cell(
            replace(case, clip=f"{case.clip}_grainy", truth=Grainy(case.truth.clip, case.truth.target, grain)),
            (("mode", "pnp"),),
            checked=True,
        )
        for case, grain in zip(cases, (25.0, 50.0), strict=False)
    ]


CHOSEN = [*by_default(TUNING), *failing(TUNING, 0), *refusing(TUNING[:2]), *grainy(TUNING[2:4])]
