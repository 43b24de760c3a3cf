"""`make bench`, stage 2: what an edit costs, ours beside per-frame editing and the published cost structure.

Every method edits the same clip with the same model, trajectory and seed in one process, the fast preset with fewer
steps. Rounds alternate in their order, and times are given as ratios within a round, since the machine is shared.
Network cost is counted, not timed: FLOPs as a ratio to one plain UNet call a frame and step. Peak memory is the
process's while the method runs, model and trajectory included.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.published import PublishedTokenFlow
from benchmarks.sampling import BATCH, DTYPE, SEED, Inverted, Method, editing, ours, table
from benchmarks.truth import Truth, shipped
from tokenflow.backbones.base import Backbone
from tokenflow.backbones.loading import load_backbone
from tokenflow.config import PRESETS
from tokenflow.config import PnP as Settings
from tokenflow.propagation import PerFrame
from tokenflow.report import Stopwatch

EDITS = {
    "dog → tiger": ("dog_walk", "tiger"),
    "cat → golden cat": ("cat_walk", "golden_cat"),
    "car → bus": ("car_drive", "bus"),
}
METHODS = {
    "per frame": Method(lambda source, guidance: PerFrame(editing(source, guidance), BATCH)),
    "published structure": Method(
        lambda source, guidance: PublishedTokenFlow(source, Settings(), guidance, BATCH, SEED)
    ),
    "ours, features carried": Method(partial(ours, carry_guidance=False, carried_until=0.0)),
    "ours, guidance carried too": Method(partial(ours, carried_until=0.0)),
    "ours": Method(),
    "ours, preset: fast": Method(steps=PRESETS["fast"]["edit"]["steps"]),
}
BASELINES = "per frame", "published structure"


def measure(backbone: Backbone, truth: Truth, rounds: int) -> list[dict[str, object]]:
    """A row a method: cost, and figures of the picture."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Inverted(backbone, truth, Path(folder))
        rows: dict[str, dict[str, object]] = {name: {"method": name} for name in METHODS}
        for name, method in METHODS.items():
            latents, calls = clip.sample_counted(method)
            rows[name] |= {"network_calls": calls, **truth.figures(clip.decoded(latents))}
        watches = [_round(clip, reverse=count % 2 == 1) for count in range(rounds)]
        seconds = {name: [watch["seconds"][name] for watch in watches] for name in METHODS}
        for name, row in rows.items():
            row["seconds_a_frame"] = median(seconds[name]) / len(truth.frames)
            row["peak_mb"] = max(watch["stage_peak_memory_mb"][name] for watch in watches)
            for other in BASELINES:
                ratios = [mine / theirs for mine, theirs in zip(seconds[name], seconds[other], strict=True)]
                row[f"time_to_{other.replace(' ', '_')}"] = median(ratios)
        return list(rows.values())


def _round(clip: Inverted, *, reverse: bool) -> dict[str, dict[str, float]]:
    """Every method once: seconds and peak memory by its name."""
    watch = Stopwatch()
    for name in reversed(METHODS) if reverse else METHODS:
        with watch.stage(name):
            clip.sample(METHODS[name])
    return watch.figures()


def main() -> None:
    """Measures, prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edits", nargs="*", default=list(EDITS), choices=list(EDITS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.json"))
    arguments = parser.parse_args()
    backbone = load_backbone(arguments.model, dtype=DTYPE)
    rows = [
        {"edit": edit, **row}
        for edit in arguments.edits
        for row in measure(backbone, shipped(*EDITS[edit]), arguments.rounds)
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
