"""Compare the edited frames of every shipped configuration with those of another commit, bit by bit.

    python -m tools.compare_edits d62ee0e --set edit.sdedit.strength=0.76

Both sides run on this machine, on the same number of threads, from their own working tree, and write lossless video.
Exits with status 1 if any frame differs. The checkout and the results of the other commit are kept in `--work`, in a
folder named after its full hash, and not made again; this side always runs again.
"""

import argparse
import os
import shutil
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import av
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ("dog_to_tiger", "dog_on_snow_controlnet", "dog_to_golden_dog_sdedit", "wolf")
"""Configurations that run on the bundled model. `wolf_stable_diffusion` needs weights from the Hub."""

LOSSLESS = ("output.codec=ffv1", "output.container=mkv")


def commit_hash(commit: str) -> str:
    """The full hash of a commit, which may be named by a branch, a tag or a shorter hash."""
    command = ["git", "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def checked_out(commit: str, tree: Path) -> Path:
    """A working tree of the commit, made if it is missing."""
    if not tree.exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True)
    return tree


def run_edit(tree: Path, config: str, results: Path, overrides: list[str]) -> Path:
    """Run one configuration in a working tree, unless its result is there; returns the edited video."""
    output = results / config
    video = output / "edited.mkv"
    if not video.exists():
        command = [sys.executable, "run_edit.py", f"configs/{config}.yaml", *LOSSLESS, f"output.dir={output}"]
        command += [f"trajectories.dir={results / 'trajectories'}", *overrides]
        subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)
    return video


def compare(first: Path, second: Path) -> str:
    """How two videos differ, in a few words; empty if every pixel of every frame is the same."""
    largest, different, count = 0, 0, 0
    for a, b in zip_longest(_frames(first), _frames(second)):
        if a is None or b is None or a.shape != b.shape:
            return "another number of frames, or another size"
        count += 1
        difference = np.abs(a.astype(int) - b)
        different += bool(difference.any())
        largest = max(largest, int(difference.max()))
    return f"{different} of {count} frames differ, by up to {largest} of 255" if different else ""


def _frames(path: Path) -> "list[np.ndarray]":
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gbrp") for frame in container.decode(video=0)]


def main(words: list[str] | None = None) -> None:
    """Compare each configuration and print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="NAME")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of this side only")
    parser.add_argument("--work", type=Path, default=Path("runs/compare_edits"))
    arguments = parser.parse_args(words)
    work = arguments.work.resolve()
    commit = commit_hash(arguments.commit)
    tree, theirs, ours = checked_out(commit, work / commit / "tree"), work / commit / "results", work / "ours"
    shutil.rmtree(ours, ignore_errors=True)  # the code or the settings may have changed since
    failed = False
    for config in arguments.configs:
        difference = compare(run_edit(tree, config, theirs, []), run_edit(ROOT, config, ours, arguments.set))
        failed |= bool(difference)
        print(f"{config:<30} {difference or 'identical'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
