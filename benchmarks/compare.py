"""`make bench-compare COMMIT=…`: what an edit costs in this working tree, beside a worktree of another commit.

    python -m benchmarks.compare d62ee0e

Both sides run the same edits of a clip that ships, in processes of their own that alternate: each pair runs one after
the other, in turning order, so that a machine that is busy for a while slows both. Network calls have to be equal and
are asserted. Times and peak memory are ratios within a pair, this tree's to the other's; tables give their medians. CPU
time, that of all threads, says more than wall time on a machine that is shared.
Stage 1 is `preprocess` with its check; stage 2 is `run` after it, with metrics and reports. The model is loaded before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.output import rows_table, write_json

ROOT = Path(__file__).resolve().parent.parent
CHILD = Path(__file__).with_name("compare_child.py")
MODES = "pnp", "sdedit", "controlnet"
PAIRS = 7
"""Fewer say little about time on a shared machine."""

Figures = dict[str, dict[str, float]]
"""By stage: seconds, cpu_seconds, calls, samples and peak_mb."""

Pair = tuple[Figures, Figures]
"""This tree's figures, and the other's."""


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A git worktree of a commit, named after it and removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}")
        _git("worktree", "add", "--quiet", "--detach", str(tree), tree.name)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def run_side(tree: Path, settings: Sequence[str]) -> Figures:
    """The figures of one tree, from a process of its own."""
    command = [sys.executable, "-P", str(CHILD), str(tree), *settings]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_pairs(other: Path, count: int, settings: Sequence[str]) -> Iterator[Pair]:
    """Pairs of figures; every second pair begins with the other tree."""
    for number in range(count):
        sides: dict[Path, Figures] = {}
        for tree in (ROOT, other) if number % 2 == 0 else (other, ROOT):
            sides[tree] = run_side(tree, settings)
        yield sides[ROOT], sides[other]


def check_calls(pair: Pair) -> None:
    """Check that both sides called the network as often, with as many samples.

    Raises:
        SystemExit: they did not; with the numbers.
    """
    for stage in pair[0]:
        ours, theirs = ([side[stage][key] for key in ("calls", "samples")] for side in pair)
        if ours != theirs:
            raise SystemExit(
                f"{stage}: expected as many network calls as the other tree makes, {theirs[0]} with {theirs[1]} "
                f"samples; got {ours[0]} with {ours[1]}"
            )


def ratio_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """A row per stage: network calls, medians of this tree's figures, and of the ratios to the other's."""
    rows = []
    for stage in pairs[0][0]:
        times, cpu_times, peaks = (
            [ours[stage][key] / theirs[stage][key] for ours, theirs in pairs]
            for key in ("seconds", "cpu_seconds", "peak_mb")
        )
        rows.append(
            {
                "stage": stage,
                "network_calls": pairs[0][0][stage]["calls"],
                "seconds": median(ours[stage]["seconds"] for ours, _ in pairs),
                "time_ratio": median(times),
                "lowest": min(times),
                "highest": max(times),
                "cpu_time_ratio": median(cpu_times),
                "peak_mb": median(ours[stage]["peak_mb"] for ours, _ in pairs),
                "peak_ratio": median(peaks),
            }
        )
    return rows


def main() -> None:
    """Run the pairs, check the network calls, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="fewer than 7 are a smoke test")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compare.json"))
    arguments = parser.parse_args()
    settings = ["--frames", str(arguments.frames), "--steps", str(arguments.steps), "--modes", *arguments.modes]
    pairs: list[Pair] = []
    with checked_out(arguments.commit) as other:
        for pair in run_pairs(other, arguments.pairs, settings):
            check_calls(pair)
            pairs.append(pair)
            print(f"pair {len(pairs)} of {arguments.pairs}:\n{rows_table(ratio_rows([pair]))}\n", flush=True)
    rows = ratio_rows(pairs)
    content = {"commit": other.name, "pairs": len(pairs), "frames": arguments.frames, "steps": arguments.steps}
    write_json(arguments.out, {**content, "rows": rows})
    print(f"This tree beside {other.name}, medians of {len(pairs)} pairs:\n\n{rows_table(rows)}")


if __name__ == "__main__":
    main()
