"""The results of `make gpu` by card: a JSON file that grows with each figure, and a document of tables."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.full_size import Measurement
from benchmarks.output import rows_table, write_json

JSON, DOCUMENT = Path("benchmarks/results/gpu.json"), Path("docs/gpu.md")
NOTES = "\n## Notes"

INTRODUCTION = """# On a GPU

Written by `make gpu` on a machine with a card (`benchmarks/gpu.py`); every figure is also in
`benchmarks/results/gpu.json`. Everything in this file from `## Notes` on is written by hand, and kept.

    make gpu PYTHON=python3

runs the tests marked `gpu` and measures both stages at full size: Stable Diffusion 1.5 at 512 × 512 pixels and Stable
Diffusion XL at 1024 × 1024, with random weights, on a drawn clip of 24 frames. It uses the given Python as it is, takes
at most ten minutes, needs no network, and writes each figure as it is measured. Called again, it measures what is
missing for the card. `--narrow` tries it out on a CPU."""

LEGEND = """invert: stage 1, with encoding. edit: stage 2 by Plug-and-Play, with flow and decoding. s: seconds per
frame. frames/s: of stage 2. MB: the most memory that torch allocated on the card, in MiB, with the model. full window:
8 keyframes at once, as in longer clips. low memory: the same with batch_size 2, keyframe_window 4, offload and tiling.
per frame: every frame by itself. compiled: the UNet's blocks by
torch.compile, which has compiled them before. published structure: the cost structure of the authors' code
(`benchmarks/published.py`)."""

COLUMNS = {
    "invert_s_per_frame": "invert, s",
    "edit_s_per_frame": "edit, s",
    "edit_frames_per_s": "edit, frames/s",
    "invert_gpu_mb": "invert, MB",
    "edit_gpu_mb": "edit, MB",
}


class GpuResults:
    """The results of one card, in a file with those of other cards.

    Args:
        card: its name.
        out: a folder for the files; None for the project's own. A new folder starts from the project's results.
    """

    def __init__(self, card: str, out: Path | None = None) -> None:
        self._card = card
        self._json = JSON if out is None else out / JSON.name
        self._document = DOCUMENT if out is None else out / DOCUMENT.name
        stored = self._json if self._json.is_file() else JSON
        self._all: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
        self._own: dict[str, Any] = self._all.setdefault(card, {"tests": "not run", "rows": {}})

    @property
    def tests(self) -> str:
        """The summary of the tests."""
        return self._own["tests"]

    @property
    def tests_passed(self) -> bool:
        """Whether the tests ran on this card and none failed."""
        return " passed" in self.tests and "failed" not in self.tests and "error" not in self.tests

    @property
    def log(self) -> Path:
        """Where the output of the tests goes."""
        return self._json.with_name("gpu-tests.log")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row per measurement, as tables show it."""
        return shown_rows(self._own)

    def forget(self) -> None:
        """Start over on this card."""
        self._own.clear()
        self._own |= {"tests": "not run", "rows": {}}

    def missing(self, plan: Iterable[Measurement]) -> list[Measurement]:
        """The measurements of a plan that have no figures yet, in order."""
        return [each for each in plan if "error" in self._own["rows"].get(each.name, {"error": "not measured"})]

    def describe(self, **facts: Any) -> None:
        """Store what the figures depend on: date, precision, versions."""
        self._own |= facts
        self._save()

    def set_tests(self, summary: str) -> None:
        """Store the summary of the tests."""
        self._own["tests"] = summary
        self._save()

    def add(self, measurement: Measurement, row: dict[str, Any]) -> None:
        """Store the figures of one measurement."""
        self._own["rows"][measurement.name] = row
        self._save()

    def _save(self) -> None:
        write_json(self._json, self._all)
        before = self._document.read_text(encoding="utf-8") if self._document.is_file() else ""
        notes = before[before.index(NOTES) :] if NOTES in before else ""
        self._document.write_text(document(self._all) + notes, encoding="utf-8")


def shown_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one card as tables show them."""
    return [
        {"measurement": f"{name}: {row['error']}" if "error" in row else name}
        | {title: row.get(key) for key, title in COLUMNS.items()}
        for name, row in results["rows"].items()
    ]


def document(results: dict[str, Any]) -> str:
    """The document, without the notes: a section per card."""
    parts = [INTRODUCTION]
    if not results:
        parts.append("No card has been measured yet.")
    for card, own in results.items():
        versions = own.get("versions", {})
        made_with = ", ".join(f"{name} {versions[name]}" for name in ("torch", "diffusers") if name in versions)
        parts += [f"## {card}", f"{own.get('date')}; {own.get('dtype')}; {made_with}. GPU tests: {own['tests']}."]
        if own["rows"]:
            parts.append(rows_table(shown_rows(own)))
    if results:
        parts.append(LEGEND)
    return "\n\n".join(parts) + "\n"
