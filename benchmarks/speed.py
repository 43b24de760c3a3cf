"""`make bench`, stage 2: what an edit costs, ours beside per-frame editing and the published cost structure.

Every method edits the same clip with the same model, trajectory and seed in one process, the fast preset with fewer
steps. Rounds alternate in their order, and times are given as ratios within a round, since the machine is shared.
Seconds are of sampling alone, flow and all that carries features included. Network cost is counted, not timed: FLOPs
as a ratio to one plain UNet call a frame and step. Peak memory is that of a process in which one method alone samples
a few steps, model and trajectory included.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.published import PublishedTokenFlow
from benchmarks.sampling import BATCH, DTYPE, SEED, Inverted, Method, editing, ours, table
from benchmarks.truth import shipped
from tokenflow.config import PRESETS
from tokenflow.config import PnP as Settings
from tokenflow.models.loading import load_model
from tokenflow.profiling import Stopwatch
from tokenflow.propagation import PerFrame

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
FEW_STEPS = 4
"""Enough for a step of each kind: with the whole edit carried, and with a pass for every frame."""


def measure(model: str, edit: str, rounds: int) -> list[dict[str, object]]:
    """A row a method: cost, and figures of the picture."""
    model, truth = load_model(model, dtype=DTYPE), shipped(*EDITS[edit])
    with tempfile.TemporaryDirectory() as folder:
        clip = Inverted(model, truth, Path(folder))
        rows: dict[str, dict[str, object]] = {name: {"method": name} for name in METHODS}
        for name, method in METHODS.items():
            latents, calls = clip.sample_counted(method)
            rows[name] |= {"network_calls": calls, **truth.figures(clip.decoded(latents))}
        figures = [once_each(clip, reverse=count % 2 == 1) for count in range(rounds)]
        for name, row in rows.items():
            row |= times(name, figures, len(truth.frames)) | {"peak_mb": peak_memory(model, edit, name)}
        return list(rows.values())


def once_each(clip: Inverted, *, reverse: bool) -> dict[str, Any]:
    """A round: what a `Stopwatch` says of every method."""
    watch = Stopwatch(clip.model.device)
    for name in reversed(METHODS) if reverse else METHODS:
        with watch.stage(name):
            clip.sample(METHODS[name])
    return watch.figures()


def times(name: str, rounds: list[dict[str, Any]], frame_count: int) -> dict[str, float]:
    """A method's seconds a frame, and its time as a ratio to each baseline's: medians over the rounds."""
    seconds = [each["seconds"][name] for each in rounds]
    figures = {"seconds_a_frame": median(seconds) / frame_count}
    for other in BASELINES:
        ratios = [mine / each["seconds"][other] for mine, each in zip(seconds, rounds, strict=True)]
        figures[f"time_to_{other.replace(' ', '_')}"] = median(ratios)
    return figures


def peak_memory(model: str, edit: str, name: str) -> int:
    """Of a method in a process of its own, in MiB."""
    command = [sys.executable, "-m", "benchmarks.speed", "--model", model, "--edits", edit, "--peak-memory-of", name]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _peak_memory_here(model: str, edit: str, name: str) -> int:
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        clip = Inverted(load_model(model, dtype=DTYPE), shipped(*EDITS[edit]), Path(folder))
        method = replace(METHODS[name], steps=FEW_STEPS)
        clip.source(FEW_STEPS)
        _give_back_freed_memory()
        with watch.stage(name):
            clip.sample(method)
    return watch.figures()["stage_peak_memory_mb"][name]


def _give_back_freed_memory() -> None:
    """What the inversion has freed counts as resident until then, where the system is one with glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    """Measures, prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--edits", nargs="*", default=list(EDITS), choices=list(EDITS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.json"))
    parser.add_argument("--peak-memory-of", choices=list(METHODS), help="of the first edit; prints that alone")
    arguments = parser.parse_args()
    if arguments.peak_memory_of:
        print(_peak_memory_here(arguments.model, arguments.edits[0], arguments.peak_memory_of))
        return
    rows = [
        {"edit": edit, **row} for edit in arguments.edits for row in measure(arguments.model, edit, arguments.rounds)
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
