"""`make carried-edits`: whether `edit.carry_interval` makes the edits of a mode better.

    python -m benchmarks.carried_edits [--modes pnp sdedit controlnet]

Every edit of the clips that settings are tuned on is made as it is without, and then with several intervals. Writes
benchmarks/results/carried_edits.json.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tokenflow
from benchmarks.cells import agreement
from benchmarks.clips import TUNING
from benchmarks.output import rows_table, write_json
from benchmarks.regions import MODES, Measured, measured
from benchmarks.truth import Truth
from tokenflow.propagation.pixels.between import carry_between

RESULTS = Path("benchmarks/results/carried_edits.json")
INTERVALS = 0, 4, 8
"""0 for the edit as it is."""
FIGURES = "warp_error_e3", "warp_error_away_e3", "detail", "perfect_psnr", "agreement"


def figures(truth: Truth, images: np.ndarray) -> dict[str, float | None]:
    """Steadiness, detail and closeness to the perfect edit, and whether the prompt is seen."""
    found = truth.figures(images) | agreement(truth, images)
    return {name: found[name] for name in FIGURES}


def rows(clip: Measured, mode: str) -> Iterator[dict[str, Any]]:
    """A row per interval."""
    source, shots = clip.truth.frames, [range(len(clip.truth.frames))]
    edited = tokenflow.edit(clip.inverted, clip.truth.prompts[1], mode=MODES[mode]).frames
    for interval in INTERVALS:
        images = np.stack(list(carry_between(source, edited, shots, interval))) if interval else edited
        yield {"edit": clip.name, "mode": mode, "interval": interval, **figures(clip.truth, images)}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each figure over edits, by mode and interval."""
    averaged = []
    for mode, interval in dict.fromkeys((row["mode"], row["interval"]) for row in rows):
        own = [row for row in rows if (row["mode"], row["interval"]) == (mode, interval)]
        averaged.append(
            {
                "mode": mode,
                "interval": interval,
                **{name: float(np.mean([row[name] for row in own])) for name in FIGURES},
            }
        )
    return averaged


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    modes = parser.parse_args().modes
    every: list[dict[str, Any]] = []
    for clip in measured(TUNING):
        for mode in modes:
            every += rows(clip, mode)
            print(rows_table(every[-len(INTERVALS) :]), flush=True)
    content = {"means": means(every), "rows": every}
    print(f"\n{rows_table(content['means'])}")
    write_json(RESULTS, content)


if __name__ == "__main__":
    main()
