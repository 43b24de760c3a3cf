"""What edits are estimated to take beside what they take, on the bundled model: disk, memory and time.

    python -m benchmarks.estimates [--write]

Disk is what a run left, and the most that its temporary files took; memory is counted by the tensors that are alive, on
the real model and by shapes alone; time is that of the run. `--write` puts the tables into docs/small_cards.md.
"""

import argparse
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

import tokenflow
from tokenflow.config import Config
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tokenflow.pipeline.checkpoint import NAME
from tokenflow.pipeline.disk_space import DiskSpace, dimensions, disk_space
from tokenflow.pipeline.memory import estimate_memory
from tokenflow.pipeline.outlook import outlook
from tokenflow.pipeline.seeds import seed_sheet
from tokenflow.report.live_bytes import LiveBytes
from tokenflow.report.units import format_bytes
from tokenflow.store.kept_pairs import SUFFIX

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "data" / "models" / "mini-sd"
CLIPS = ROOT / "data" / "clips"
DOCUMENT = ROOT / "docs" / "small_cards.md"
BEGIN, END = "<!-- estimates: begin -->", "<!-- estimates: end -->"
STEPS = 10
DESCRIPTORS = Path("/proc/self/fd")
POLL = 0.02

MASK, REFERENCE = "mask.png", "reference.png"
"""Images that are drawn for each case, in its folder."""

CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "a region by words": {"regions": [{"words": "dog"}]},
    "a region by mask": {"regions": [{"mask": MASK}]},
    "a reference": {"references": [REFERENCE]},
    "SDEdit": {"mode": "sdedit"},
    "FlowEdit": {"mode": "flowedit"},
    "one by one": {"propagation": "none"},
}
"""Settings of the edit."""


@dataclass(frozen=True)
class Taken:
    """Bytes that a run took.

    Attributes:
        inversion: the stored inversion without what edits leave with it.
        flow: what edits leave with it.
        scratch: the most that temporary files and checkpoints took at once.
        result: the result folder.
        seconds: the whole run.
    """

    inversion: int
    flow: int
    scratch: int
    result: int
    seconds: float


def configured(folder: Path, **edit: Any) -> Config:
    """An edit of the bundled clip, in a folder of its own, with the images that it names."""
    source = next(iter(tokenflow.Video.read(CLIPS / "dog_walk.mp4"))).image
    Image.fromarray(source).save(folder / REFERENCE)
    mask = cv2.circle(np.zeros(source.shape[:2], np.uint8), (64, 64), 40, 255, cv2.FILLED)
    Image.fromarray(mask).save(folder / MASK)
    if edit.get("regions") == [{"mask": MASK}]:
        edit["regions"] = [{"mask": folder / MASK}]
    if edit.get("references") == [REFERENCE]:
        edit["references"] = [{"path": folder / REFERENCE}]
    return Config.model_validate(
        {
            "clip": {"path": CLIPS / "dog_walk.mp4", "prompt": "a dog on grass, 3d style", "cuts": []},
            "model": {"path": str(MODEL), "device": "cpu", "dtype": "float32"},
            "inversion": {"steps": STEPS, "warn_below_psnr": 0},
            "edit": {"prompt": "a tiger on grass, 3d style", "steps": STEPS, **edit},
            "output": {"dir": folder / "result"},
            "trajectories": {"dir": folder / "store"},
        }
    )


def run_measured(config: Config, model: Model) -> Taken:
    """Make an edit, and measure what it took."""
    start = time.perf_counter()
    with watched(config.output.dir) as most:
        tokenflow.run(config, model=model)
    seconds = time.perf_counter() - start
    (inversion,) = config.trajectories.dir.iterdir()
    flow = sum(path.stat().st_size for path in inversion.glob(f"*{SUFFIX}"))
    return Taken(size_of(inversion) - flow, flow, most[0], size_of(config.output.dir), seconds)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """The most bytes that files without a name, and checkpoints in a folder, take at once while the block runs."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(POLL):
            most[0] = max(most[0], scratch_bytes(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def scratch_bytes(folder: Path) -> int:
    """Bytes of the files without a name that this process has open, and of checkpoints in a folder."""
    sizes: dict[int, int] = {}
    for descriptor in DESCRIPTORS.iterdir():
        try:
            found = descriptor.stat()
        except OSError:
            continue
        if found.st_nlink == 0:
            sizes[found.st_ino] = 512 * found.st_blocks
    checkpoints = 0
    for path in folder.rglob(f"*{NAME}*"):
        try:
            checkpoints += path.stat().st_size
        except OSError:
            continue
    return sum(sizes.values()) + checkpoints


def counted_peak(config: Config, model: Model) -> int:
    """Bytes of the tensors that are alive at once while a clip is inverted and edited, beside the weights."""
    clip = tokenflow.Video.read(config.clip.path)
    with LiveBytes() as counted:
        inverted = tokenflow.invert(clip, model, config.clip.prompt, cuts=(), steps=2)
        edit = config.edit
        tokenflow.edit(inverted, edit.prompt, steps=2, propagation=edit.propagation)
    return counted.peak


def compare(name: str, estimated: DiskSpace, taken: Taken) -> str:
    """A row of the table of disk space."""
    pairs = [(getattr(estimated, each), getattr(taken, each)) for each in ("inversion", "flow", "scratch", "result")]
    cells = [f"{format_bytes(first)} / {format_bytes(second)}" for first, second in pairs]
    total = [sum(each) for each in zip(*pairs, strict=True)]
    return f"| {name} | {' | '.join(cells)} | {total[0] / total[1]:.2f} |"


def tables(cases: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """The lines of both tables."""
    model = load_model(MODEL, device="cpu", dtype="float32")
    times = []
    yield "| estimated / taken | inversion | flow | scratch | result | ratio of all |"
    yield "|---|---|---|---|---|---|"
    for name, edit in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            config = configured(Path(folder), **edit)
            expected = outlook(config, model=model)
            taken = run_measured(config, model)
            yield compare(name, disk_space(config), taken)
            times.append(f"| {name} | {expected.seconds:.0f} s | {taken.seconds:.0f} s |")
    with tempfile.TemporaryDirectory() as folder:
        config = configured(Path(folder), variation=0.5)
        expected = outlook(config, seeds=3, model=model)
        seed_sheet(config, 3, model=model)
        taken_sheet = size_of(config.output.dir)
        yield f"\nThe sheet of three seeds: {format_bytes(expected.disk.result)} / {format_bytes(taken_sheet)}."
    yield "\n| | time estimated | taken |\n|---|---|---|"
    yield from times
    with tempfile.TemporaryDirectory() as folder:
        config = configured(Path(folder))
        frames, width, height = dimensions(config)
        estimate = estimate_memory(config, frames, (width, height))
        if estimate is None:
            raise RuntimeError("the bundled model has no configuration")
        counted = counted_peak(config, model)
    yield (
        f"\nMemory beside the weights: {format_bytes(max(estimate.stages.values()))} by shapes, "
        f"{format_bytes(counted)} counted on the real model."
    )


def main() -> None:
    """Print the tables, or write them into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/small_cards.md")
    write = parser.parse_args().write
    lines = []
    for line in tables(CASES):
        print(line, flush=True)
        lines.append(line)
    if write:
        text = DOCUMENT.read_text(encoding="utf-8")
        content = f"{BEGIN}\n" + "\n".join(lines) + f"\n{END}"
        DOCUMENT.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: content, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
