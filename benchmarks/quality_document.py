"""The results of `benchmarks.quality` as tables, image strips and a document.

Everything in docs/quality.md from `## Notes` on is written by hand, and kept.
"""

import json
import platform
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import CLASSIFIER, CONTROLNET, Cell, Figures, can_run, classifier
from benchmarks.clips import Case
from benchmarks.output import table, write_json
from tokenflow.report import contact_sheet, versions

MODES = ("pnp", "sdedit", "controlnet", "flowedit")
DOCUMENT, RESULTS = Path("docs/quality.md"), Path("benchmarks/results")
NOTES = "## Notes"
STRIP_FRAMES = 6
SHOWN = 2
"""Edits per mode that are shown."""

COLUMNS: dict[str, tuple[str, str]] = {
    "perfect_psnr": ("PSNR", "{:.2f}"),
    "perfect_psnr_inside": ("inside", "{:.2f}"),
    "perfect_psnr_outside": ("outside", "{:.2f}"),
    "preservation_psnr": ("preserved", "{:.2f}"),
    "agreement": ("agrees", "{:.0%}"),
    "edges": ("edges", "{:.2f}"),
    "worst_crop": ("worst crop", "{:.2f}"),
    "detail": ("detail", "{:.2f}"),
    "warp_error_e3": ("warp error", "{:.3f}"),
    "to_floor": ("to floor", "{:.2f}"),
    "warp_error_away_e3": ("away", "{:.3f}"),
    "seconds": ("s", "{:.1f}"),
}
LEGEND = """PSNR in dB to the perfect edit: whole, inside of what the edit is meant to change, and outside. Preserved:
PSNR to the source outside. Agrees: fraction of frames in which the classifier sees every word that the edit changes.
Edges: how well the edges of the object agree with the perfect edit's, 1 at best; worst crop: the share of the perfect
edit's edges that is there in the part of the object where fewest are. The classifier takes a cat without a head for a
cat; the worst crop does not. Detail: gradient energy relative to the perfect edit's. Warp error: × 10⁻³, along exact
flow, on pixels that are visible in both frames of both the source and the perfect edit. To floor: warp error relative
to that of the perfect edit through the autoencoder. Away: the warp error at least 8 pixels from the outlines of the
object and of the perfect edit's, where a slightly different outline does not count. s: seconds of sampling for twelve
frames. More in [metrics.md](metrics.md).

Averaged: the per-frame edit, every frame averaged with all others along the perfect edit's own motion: how close frames
come to the perfect edit by agreeing alone, with the mistakes that all of them share. Floor: the perfect edit through
the autoencoder. Source: the unedited source in place of the edit, as a reference for PSNR and agreement: some edits are
hardly closer to the perfect edit, and the source agrees with the prompt in no frame."""
AVERAGED = "*averaged*"
"""The propagation of rows that hold an averaged per-frame edit: see the legend."""

References = dict[str, dict[str, Figures]]
"""What edits are compared with, `floor` and `source`: the figures of each by the edit's name."""


@dataclass(frozen=True)
class Row:
    """A measured cell of the benchmark; or a per-frame one, averaged."""

    case: Case
    mode: str
    propagation: str
    cell: Cell
    figures: Figures

    @property
    def images(self) -> np.ndarray:
        """The frames that are measured, f H W 3 uint8."""
        images = self.cell.images()
        return self.case.truth.averaged(images) if self.propagation == AVERAGED else images


def mean(rows: Sequence[Figures], key: str) -> float | None:
    """The mean of a figure over the rows that have it; None if none has."""
    values = [value for row in rows if (value := row.get(key)) is not None]
    return float(np.mean(values)) if values else None


def pairs(rows: Sequence[Row], mode: str, propagation: str = "flow") -> list[tuple[Row, Row]]:
    """Each edit of a mode by some propagation, with the same edit per frame, where there is one."""
    alone = {row.case.name: row for row in rows if (row.mode, row.propagation) == (mode, "per frame")}
    of_it = [row for row in rows if (row.mode, row.propagation) == (mode, propagation)]
    return [(row, alone[row.case.name]) for row in of_it if row.case.name in alone]


@dataclass(frozen=True)
class Goal:
    """A target of a mode: the `value` of its pairs (TokenFlow with flow, per frame) is at least or at most `bound`."""

    text: str
    value: Callable[[list[tuple[Row, Row]]], float | None]
    bound: float
    at_least: bool

    def word(self, found: list[tuple[Row, Row]]) -> str:
        """The value and whether it is reached."""
        value = self.value(found)
        if value is None:
            return "not measured"
        reached = value >= self.bound if self.at_least else value <= self.bound
        return f"{value:.2f}, {'reached' if reached else '**missed**'}"


def _means(found: Sequence[tuple[Row, Row]], key: str) -> tuple[float, float] | None:
    """Means of a figure, over TokenFlow's and over the per-frame rows."""
    ours, theirs = (mean([pair[side].figures for pair in found], key) for side in (0, 1))
    return None if ours is None or theirs is None else (ours, theirs)


def _ratio(key: str) -> Callable[[list[tuple[Row, Row]]], float | None]:
    return lambda found: (means[0] / means[1]) if (means := _means(found, key)) else None


def _gain(key: str) -> Callable[[list[tuple[Row, Row]]], float | None]:
    return lambda found: (means[0] - means[1]) if (means := _means(found, key)) else None


def _agreement_of_things(found: list[tuple[Row, Row]]) -> float | None:
    return mean([ours.figures for ours, _ in found if ours.case.kind in ("object", "material")], "agreement")


GOALS = (
    Goal("warp error, × per-frame: at most 0.5", _ratio("warp_error_e3"), 0.5, False),
    Goal(
        "warp error, × floor: at most 1.5",
        lambda found: mean([ours.figures for ours, _ in found], "to_floor"),
        1.5,
        False,
    ),
    Goal("warp error away from outlines, × per-frame: at most 0.5", _ratio("warp_error_away_e3"), 0.5, False),
    Goal("agreement minus per-frame: at least 0", _gain("agreement"), 0.0, True),
    Goal("PSNR to the perfect edit minus per-frame: at least 1 dB", _gain("perfect_psnr"), 1.0, True),
    Goal("detail, × per-frame: at least 0.9", _ratio("detail"), 0.9, True),
    Goal("worst crop minus per-frame: at least 0", _gain("worst_crop"), 0.0, True),
    Goal("agreement of object and material edits: at least 0.85", _agreement_of_things, 0.85, True),
)


def goals_table(rows: Sequence[Row]) -> str:
    """The goals, and which were reached, by mode."""
    found = {mode: pairs(rows, mode) for mode in MODES}
    lines = [
        [goal.text, *(goal.word(found[mode]) if found[mode] else "not measured" for mode in MODES)] for goal in GOALS
    ]
    return table(["TokenFlow with flow", *MODES], lines)


def means_table(rows: Sequence[Row], references: References) -> str:
    """Means by mode and propagation over the edits made both ways, and over their references."""
    lines = []
    for mode in MODES:
        names = [row.case.name for row in rows if (row.mode, row.propagation) == (mode, "flow")]
        if not names:
            continue
        for propagation in ("per frame", AVERAGED, "flow"):
            of_it = [row.figures for row in rows if (row.mode, row.propagation) == (mode, propagation)]
            lines += _means_line(mode, propagation, of_it)
        for reference, of_edits in references.items():
            lines += _means_line(mode, f"*{reference}*", [of_edits[name] for name in names])
    return table(["mode", "propagation", "edits", *(title for title, _ in COLUMNS.values())], lines)


def _means_line(mode: str, name: str, rows: Sequence[Figures]) -> Iterator[list[str]]:
    """A line of the table of means, if there are rows for it."""
    if rows:
        yield [mode, name, str(len(rows)), *shown_figures({key: mean(rows, key) for key in COLUMNS})]


def rows_table(rows: Sequence[Row], references: References) -> str:
    """Every row of some edits, each edit followed by its references."""
    lines = []
    for name in dict.fromkeys(row.case.name for row in rows):
        of_it = [row for row in rows if row.case.name == name]
        case = of_it[0].case
        edit = [case.clip.replace("_", " "), f"{case.edit} ({case.kind})"]
        lines += [[*edit, row.propagation, *shown_figures(row.figures)] for row in of_it]
        lines += [[*edit, f"*{each}*", *shown_figures(of_edits[name])] for each, of_edits in references.items()]
    return table(["clip", "edit", "propagation", *(title for title, _ in COLUMNS.values())], lines)


def of_interest(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """For each mode, the `SHOWN` edits by TokenFlow with flow whose worst crop is lowest, with all their rows."""
    for mode in MODES:
        worst_first = sorted(
            (ours for ours, _ in pairs(rows, mode)), key=lambda row: _number(row.figures, "worst_crop")
        )
        for ours in worst_first[:SHOWN]:
            yield [row for row in rows if row.mode == mode and row.case.name == ours.case.name]


def write_strip(rows: Sequence[Row], path: Path) -> None:
    """Write frames of the source, the perfect edit and each row, one below the other."""
    truth = rows[0].case.truth
    shown = np.linspace(0, truth.clip.frames - 1, STRIP_FRAMES).round().astype(int)
    strips = {"source": truth.frames, "perfect edit": (truth.perfect * 255).round().astype(np.uint8)}
    strips |= {row.propagation.strip("*"): row.images for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet({label: [images[frame] for frame in shown] for label, images in strips.items()}).save(
        path, quality=88
    )


def missing() -> list[str]:
    """A sentence about each figure that is not measured because a file is missing."""
    sentences = []
    if not can_run("controlnet"):
        sentences.append(f"controlnet is not measured: {CONTROLNET} is missing.")
    if classifier() is None:
        sentences.append(f"Agreement with the prompt is not measured: {CLASSIFIER} is missing.")
    return sentences


def minutes(rows: Sequence[Row]) -> float:
    """How long all edits took when they were made, with the inversions."""
    return sum(sum(cell.record()["seconds"].values()) for cell in {row.cell for row in rows}) / 60


def design_text(rows: Sequence[Row]) -> str:
    """A paragraph about which edits were made how, and what figures over several of them mean."""
    edits = {
        propagation: ", ".join(f"{len(pairs(rows, mode, propagation))} by {mode}" for mode in MODES)
        for propagation in ("flow", "nearest")
    }
    text = f"""Plug-and-Play makes every edit, the other modes the first of each kind: {edits["flow"]}. Each is made per
frame and by TokenFlow with flow. Only some are made with nearest features ({edits["nearest"]}); they are left out of
the means, and goals are for TokenFlow with flow only. A mean is over the edits that have the figure: *outside* and
*preserved* leave out edits of style and light, which are meant to change everything. "× per-frame" is a ratio of two
means, "× floor" the mean of each edit's own ratio. The JSON also has `agreement_kept`: the fraction of frames in which
the classifier sees a word that the edit leaves, averaged over these words. All edits together took
{minutes(rows):.0f} minutes, with the inversions."""
    return textwrap.fill(" ".join(text.split()), 120)


def page(rows: Sequence[Row], references: References, strips: Sequence[tuple[list[Row], Path]]) -> str:
    """The document, without the notes."""
    parts = [
        "# Measured quality",
        f"Written by `make quality`; all figures are in `{RESULTS}/quality.json`.",
        *missing(),
    ]
    parts += [design_text(rows), LEGEND, "## Goals", goals_table(rows)]
    parts += ["## Means", means_table(rows, references)]
    parts += [
        "## Images",
        "The worst edits of each mode: those by TokenFlow whose worst crop is lowest, the worst first.",
    ]
    for shown, path in strips:
        case = shown[0].case
        title = f"{case.truth.prompts[0]} → {case.truth.prompts[1]} ({shown[0].mode}; {case.traits})"
        parts += [f"**{title}**", f"![{title}]({path.relative_to(DOCUMENT.parent)})"]
    parts.append("## All rows")
    for mode in MODES:
        if of_mode := [row for row in rows if row.mode == mode]:
            parts += [f"### {mode}", rows_table(of_mode, references)]
    return "\n\n".join(parts) + "\n"


def write_document(rows: Sequence[Row], references: References) -> None:
    """Write docs/quality.md, its strips, and the JSON."""
    strips = []
    for shown in of_interest(rows):
        path = DOCUMENT.with_suffix("") / f"{shown[0].mode}.{shown[0].case.name}.jpg"
        write_strip(shown, path)
        strips.append((shown, path))
    for stale in set(DOCUMENT.with_suffix("").glob("*.jpg")) - {path for _, path in strips}:
        stale.unlink()
    before = DOCUMENT.read_text() if DOCUMENT.is_file() else ""
    notes = before[before.index(NOTES) :] if NOTES in before else ""
    DOCUMENT.write_text(page(rows, references, strips) + (f"\n{notes}" if notes else ""))
    write_json(RESULTS / "quality.json", as_json(rows, references))


def write_rows(rows: Sequence[Row], references: References) -> None:
    """Put the rows of some modes and propagations into the JSON, in place of those that are there of these."""
    path, content = RESULTS / "quality.json", as_json(rows, references)
    before = json.loads(path.read_text(encoding="utf-8"))
    measured = {(row.mode, row.propagation) for row in rows}
    kept = [row for row in before["rows"] if (row["mode"], row["propagation"]) not in measured]
    content["rows"] = kept + content["rows"]
    content["references"] = {name: before["references"][name] | of_edits for name, of_edits in references.items()}
    write_json(path, content)


def as_json(rows: Sequence[Row], references: References) -> dict[str, Any]:
    """Everything that was measured, and what it was measured with."""
    return {
        "missing": missing(),
        "machine": platform.processor() or platform.machine(),
        "versions": versions(),
        "references": references,
        "rows": [
            {
                "clip": row.case.clip,
                "traits": row.case.traits,
                "edit": row.case.edit,
                "kind": row.case.kind,
                "mode": row.mode,
                "propagation": row.propagation,
                **row.figures,
                "report": row.cell.record(),
            }
            for row in rows
        ],
    }


def shown_figures(values: Figures) -> list[str]:
    """The figures of all columns as a table shows them; a dash for those that were not measured."""
    return ["–" if (value := values.get(key)) is None else form.format(value) for key, (_, form) in COLUMNS.items()]


def _number(values: Figures, key: str) -> float:
    value = values[key]
    if value is None:
        raise ValueError(f"expected a number for {key}, got None")
    return value
