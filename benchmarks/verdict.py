"""`make verdict`: how often the verdict on an edit is right, on drawn clips whose perfect edit is known.

Every edit is labelled by the perfect edit alone, and judged by what its report holds, which knows nothing of it. The
thresholds (tokenflow/metrics/verdict.py) were chosen on the first set of edits and tested on the second
(labelled_edits.py). Resumes as `make quality` does. Writes benchmarks/results/verdict.json and the section of
docs/metrics.md between its two markers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.cells import CLASSIFIER, Cell, floor
from benchmarks.edges import edge_agreement
from benchmarks.labelled_edits import CHOSEN, TESTED, LabelledEdit
from benchmarks.output import table, write_json
from benchmarks.quality import make_missing
from benchmarks.truth import Truth
from tokenflow.metrics import EditMetrics, WordsSeen, gradient_energy
from tokenflow.metrics.verdict import MIN_AUTOENCODER_PSNR, Verdict, judge
from tokenflow.report import versions

RESULTS, DOCUMENT = Path("benchmarks/results/verdict.json"), Path("docs/metrics.md")
BEGIN, END = "<!-- written by make verdict -->\n", "<!-- end -->\n"

MIN_DETAIL = 0.5
"""Of the detail of the perfect edit through the autoencoder: below, an edit is flattened."""

MIN_PROGRESS = 0.6
"""Share of the way from source to perfect edit: below, a clip is hardly edited."""

MAX_DISTANCE = {"object": 0.8, "style": 0.8, "material": 0.5, "background": 0.5, "global": 0.5}
"""From the perfect edit, of the source's, by the kind of edit: above, the edit shows something else. An object may take
another pose than the perfect edit's, and a style changes little."""

MIN_CROP = 0.15
"""Of the perfect edit's edges in the worst crop: below, a part of the object is lost."""

BLUR = 4.0
"""Standard deviation of the Gaussian before distances are measured, in pixels: texture may lie elsewhere."""


@dataclass(frozen=True)
class Judged:
    """An edit with its label and its verdict.

    Attributes:
        edit: the edit.
        label: a verdict's name.
        verdict: what tokenflow says.
        figures: what the label rests on.
    """

    edit: LabelledEdit
    label: str
    verdict: Verdict
    figures: dict[str, float]

    @property
    def failed(self) -> bool:
        """Whether the perfect edit says so."""
        return self.label != "good"

    @property
    def named(self) -> bool:
        """Whether the verdict says so."""
        return self.verdict.name != "good"


def judged(edit: LabelledEdit) -> Judged:
    """Label and judge an edit that is kept."""
    images, case = edit.images(), edit.cell.case
    figures = truth_figures(case.truth, images, floor(case))
    return Judged(edit, label(figures, case.kind), verdict_of(edit.cell, images), figures)


def truth_figures(truth: Truth, edited: np.ndarray, through_autoencoder: np.ndarray) -> dict[str, float]:
    """What the perfect edit tells of an edit (f H W 3 uint8)."""
    perfect = (truth.perfect * 255).round().astype(np.uint8)
    wanted, made = _change(truth.frames, perfect, truth.meant), _change(truth.frames, edited, truth.meant)
    error = np.square((through_autoencoder / 255.0) - truth.perfect).mean()
    return {
        "floor_psnr": float(-10 * np.log10(error)),
        "detail": gradient_energy(edited / 255.0) / gradient_energy(through_autoencoder / 255.0),
        "progress": float((wanted * made).sum() / np.square(wanted).sum()),
        "distance": float(np.sqrt(np.square(made - wanted).sum() / np.square(wanted).sum())),
        **edge_agreement(edited, perfect, truth.target.masks()),
    }


def label(figures: dict[str, float], kind: str) -> str:
    """What the perfect edit says of an edit."""
    if figures["floor_psnr"] < MIN_AUTOENCODER_PSNR:
        return "clip not shown"
    if figures["detail"] < MIN_DETAIL:
        return "flattened"
    if figures["progress"] < MIN_PROGRESS:
        return "hardly edited"
    if figures["distance"] > MAX_DISTANCE[kind]:
        return "prompt not followed"
    return "parts lost" if figures["worst_crop"] < MIN_CROP else "good"


def verdict_of(cell: Cell, images: np.ndarray) -> Verdict:
    """What the report of an edit says of it."""
    source, target = cell.case.truth.prompts
    words = WordsSeen(str(CLASSIFIER), source, target)
    metrics = EditMetrics(iter(cell.reconstruction()), words_seen=words)
    for before, after in zip(cell.case.truth.frames, images, strict=True):
        metrics.add(before, after)
    figures = {"reconstruction": cell.record()["reconstruction"], **metrics.figures()}
    return judge(figures, cell.mode, keeps_object=words.keeps_object)


def summary(rows: Sequence[Judged]) -> dict[str, float]:
    """How many edits failed, which share of them is named, and which share of the others is named, too."""
    failed, fine = [row for row in rows if row.failed], [row for row in rows if not row.failed]
    return {
        "edits": len(rows),
        "failed": len(failed),
        "named": sum(row.named for row in failed) / len(failed),
        "named_rightly": sum(row.verdict.name == row.label for row in failed) / len(failed),
        "false_alarms": sum(row.named for row in fine) / len(fine),
    }


def summaries_table(sets: dict[str, list[Judged]]) -> str:
    """A line per set of edits."""
    head = ["edits", "count", "failed", "failures named", "of these by the label's name", "false alarms"]
    lines = []
    for name, rows in sets.items():
        found = summary(rows)
        shares = (f"{found[key]:.0%}" for key in ("named", "named_rightly", "false_alarms"))
        lines.append([name, f"{found['edits']:.0f}", f"{found['failed']:.0f}", *shares])
    return table(head, lines)


def mistakes_table(rows: Sequence[Judged]) -> str:
    """Every edit whose label and verdict differ."""
    head = ["clip", "edit", "mode and settings", "label", "verdict"]
    lines = [
        [row.edit.cell.case.clip, row.edit.cell.case.edit, _settings(row.edit), row.label, row.verdict.name]
        for row in rows
        if row.label != row.verdict.name
    ]
    return table(head, lines)


def section(sets: dict[str, list[Judged]]) -> str:
    """What the document says."""
    everything = [row for rows in sets.values() for row in rows]
    return "\n\n".join([summaries_table(sets), "Edits whose label and verdict differ:", mistakes_table(everything)])


def write_section(text: str) -> None:
    """Replace what is between the two markers of the document."""
    content = DOCUMENT.read_text(encoding="utf-8")
    before, rest = content.split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def as_json(rows: Sequence[Judged]) -> list[dict[str, Any]]:
    """Each edit, with its label and verdict."""
    return [
        {
            "clip": row.edit.cell.case.clip,
            "edit": row.edit.cell.case.edit,
            "kind": row.edit.cell.case.kind,
            "settings": dict(row.edit.cell.settings),
            "smear": row.edit.smear,
            "label": row.label,
            "verdict": row.verdict.name,
            "finding": row.verdict.finding,
            **row.figures,
        }
        for row in rows
    ]


def _change(before: np.ndarray, after: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The difference of two clips (f H W 3 uint8), blurred, at the pixels of a mask f H W: p 3."""
    differences = [
        cv2.GaussianBlur(second.astype(np.float32) - first.astype(np.float32), (0, 0), BLUR)
        for first, second in zip(before, after, strict=True)
    ]
    return np.stack(differences)[where]


def _settings(edit: LabelledEdit) -> str:
    cell = edit.cell
    smeared = [f"smeared by {edit.smear:g} pixels"] if edit.smear else []
    return ", ".join([cell.mode, *(f"{key}={value}" for key, value in cell.settings if key != "mode"), *smeared])


def main() -> None:
    """Make what is missing, label and judge, and write what was found."""
    edits = {"chosen on": CHOSEN, "tested on": TESTED}
    make_missing(list(dict.fromkeys(edit.cell for edit in [*CHOSEN, *TESTED])))
    sets = {name: [judged(edit) for edit in each] for name, each in edits.items()}
    text = section(sets)
    print(text)
    write_section(text)
    content = {name: {**summary(rows), "rows": as_json(rows)} for name, rows in sets.items()}
    write_json(RESULTS, {"versions": versions(), **content})


if __name__ == "__main__":
    main()
