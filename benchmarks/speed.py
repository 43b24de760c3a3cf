"""`make bench`, stage 2: what an edit costs, beside per-frame editing and the published cost structure.

All methods edit the same clip with the same model and seed in one process; the fast preset takes fewer steps. Rounds
alternate in their order, and times are given as ratios within a round, since the machine may be shared. Seconds are of
sampling alone, with flow and everything that propagation does. The cost of the network is counted, not timed: FLOPs as
a ratio to one plain UNet call per frame and step. Peak memory is that of a process in which one method samples a few
steps, with the model and the inversion.
"""

import argparse
import ctypes
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.output import rows_table, write_json
from benchmarks.published import PublishedTokenFlow
from benchmarks.sampling import BATCH, DTYPE, SEED, Inverted, Method, build_tokenflow, pnp_denoiser
from benchmarks.truth import shipped
from tokenflow.config import PRESETS, Edit, PnP
from tokenflow.models.loading import load_model
from tokenflow.propagation import PerFrame
from tokenflow.report.profiling import Stopwatch

EDITS = {
    "dog → tiger": ("dog_walk", "tiger"),
    "cat → golden cat": ("cat_walk", "golden_cat"),
    "car → bus": ("car_drive", "bus"),
}
NEVER_WHOLE = Edit(prompt="", propagate_edit_until=0.0)
"""Settings with which every frame goes through the network at every step."""

FEATURES_ONLY = NEVER_WHOLE.model_copy(update={"guidance": "per_frame"})
METHODS = {
    "per frame": Method(lambda source, guidance: PerFrame(pnp_denoiser(source, guidance), BATCH)),
    "published structure": Method(lambda source, guidance: PublishedTokenFlow(source, PnP(), guidance, BATCH, SEED)),
    "ours, features propagated": Method(partial(build_tokenflow, settings=FEATURES_ONLY)),
    "ours, guidance propagated too": Method(partial(build_tokenflow, settings=NEVER_WHOLE)),
    "ours": Method(),
    "ours, preset: fast": Method(steps=PRESETS["fast"]["edit"]["steps"]),
}
BASELINES = "per frame", "published structure"
FEW_STEPS = 4
"""Enough for a step of each kind: with the whole edit propagated, and with a pass for every frame."""


def measure(model_path: str, edit: str, rounds: int) -> list[dict[str, object]]:
    """A row per method: its cost, and figures of the edited frames."""
    truth = shipped(*EDITS[edit])
    clip = Inverted(load_model(model_path, dtype=DTYPE), truth)
    rows: dict[str, dict[str, object]] = {name: {"method": name} for name in METHODS}
    for name, method in METHODS.items():
        latents, calls = clip.sample_counted(method)
        rows[name] |= {"network_calls": calls, **truth.figures(clip.decoded(latents))}
    figures = [time_methods(clip, reverse=count % 2 == 1) for count in range(rounds)]
    for name, row in rows.items():
        row |= times(name, figures, len(truth.frames)) | {"peak_mb": peak_memory(model_path, edit, name)}
    return list(rows.values())


def time_methods(clip: Inverted, *, reverse: bool) -> dict[str, Any]:
    """One round: the `Stopwatch` figures of every method."""
    watch = Stopwatch(clip.model.device)
    for name in reversed(METHODS) if reverse else METHODS:
        with watch.stage(name):
            clip.sample(METHODS[name])
    return watch.figures()


def times(name: str, rounds: list[dict[str, Any]], frame_count: int) -> dict[str, float]:
    """A method's seconds per frame, and its time as a ratio to each baseline's: medians over the rounds."""
    seconds = [each["seconds"][name] for each in rounds]
    figures = {"seconds_per_frame": median(seconds) / frame_count}
    for other in BASELINES:
        ratios = [mine / each["seconds"][other] for mine, each in zip(seconds, rounds, strict=True)]
        figures[f"time_to_{other.replace(' ', '_')}"] = median(ratios)
    return figures


def peak_memory(model_path: str, edit: str, name: str) -> int:
    """Peak memory of a method in a process of its own, in MiB."""
    command = [sys.executable, "-m", "benchmarks.speed", "--model", model_path]
    command += ["--edits", edit, "--peak-memory-of", name]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _peak_memory_here(model_path: str, edit: str, name: str) -> int:
    watch = Stopwatch()
    clip = Inverted(load_model(model_path, dtype=DTYPE), shipped(*EDITS[edit]))
    method = replace(METHODS[name], steps=FEW_STEPS)
    clip.source(FEW_STEPS)
    _return_freed_memory()
    with watch.stage(name):
        clip.sample(method)
    return watch.figures()["stage_peak_memory_mb"][name]


def _return_freed_memory() -> None:
    """Return what the inversion has freed to the system, where it has glibc; until then it counts as resident."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--edits", nargs="*", default=list(EDITS), choices=list(EDITS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.json"))
    parser.add_argument("--peak-memory-of", choices=list(METHODS), help="on the first edit; prints only that")
    arguments = parser.parse_args()
    if arguments.peak_memory_of:
        print(_peak_memory_here(arguments.model, arguments.edits[0], arguments.peak_memory_of))
        return
    rows = [
        {"edit": edit, **row} for edit in arguments.edits for row in measure(arguments.model, edit, arguments.rounds)
    ]
    write_json(arguments.out, {"torch": torch.__version__, "rows": rows})
    print(rows_table(rows))


if __name__ == "__main__":
    main()
