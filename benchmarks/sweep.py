"""`make sweep`: the effect of each setting of the modes, varied one at a time around the defaults, on tuning clips.

Also compares propagated guidance with guidance for every frame, at each scale, with the whole edit never propagated.
The defaults in tokenflow/config/sections/ were chosen by hand from these tables: agreement first, then PSNR and
detail, then warp error. All edits are TokenFlow's with flow; per-frame editing uses the same settings.

Resumes as `make quality` does. Writes benchmarks/results/sweep.json and sweep.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cells import Cell, Figures, can_run, figures, floor
from benchmarks.clips import TUNING
from benchmarks.output import table, write_json
from benchmarks.quality import beside, make_missing
from benchmarks.quality_document import COLUMNS, MODES, RESULTS, mean, missing, shown_figures
from benchmarks.sampling import DEFAULTS
from tokenflow.report import versions

SCALES = 3.0, 4.0, 5.0, 7.5
SHARED: dict[str, tuple[Any, ...]] = {
    "guidance_scale": SCALES,
    "keyframe_interval": (2, None, 8),
    "propagate_edit_until": (0.0, 0.5, 0.76, 1.0),
    "steps": (8, 15, 25),
}
SWEPT: dict[str, dict[str, tuple[Any, ...]]] = {
    "pnp": {"pnp.features_until": (0.4, 0.6, 0.8, 1.0), "pnp.attention_until": (0.2, 0.5, 0.8, 1.0), **SHARED},
    "sdedit": {"sdedit.strength": (0.5, 0.6, 0.68, 0.76, 0.8), "sdedit.noise": ("inversion", "shared"), **SHARED},
    "controlnet": {
        "controlnet.scale": (0.5, 0.75, 1.0),
        "controlnet.end": (0.6, 0.8, 1.0),
        "controlnet.noise": ("inversion", "shared"),
        **SHARED,
    },
    "flowedit": {
        "flowedit.strength": (0.5, 0.6, 0.7, 0.8),
        "flowedit.source_guidance_scale": (1.0, 1.5, 2.5),
        **SHARED,
    },
}


@dataclass(frozen=True)
class Line:
    """A mode with some settings, on every tuning clip.

    Attributes:
        mode: of the edit.
        changes: dotted keys below `edit` and their values, defaults among them.
    """

    mode: str
    changes: tuple[tuple[str, Any], ...]

    @property
    def cells(self) -> list[Cell]:
        """One per clip. Defaults are left out of their settings, so that each is made once for all tables."""
        changed = tuple((key, value) for key, value in self.changes if value != default(key))
        return [Cell(case, (("mode", self.mode), *changed)) for case in TUNING]

    @property
    def shown(self) -> list[str]:
        """Mode, settings and values; defaults are bold."""
        values = ", ".join(str(value) for _, value in self.changes)
        is_default = all(value == default(key) for key, value in self.changes)
        return [self.mode, ", ".join(key for key, _ in self.changes), f"**{values}**" if is_default else values]


def default(key: str) -> Any:
    """The default of a dotted key below `edit`."""
    value: Any = DEFAULTS
    for name in key.split("."):
        value = getattr(value, name)
    return value


def one_at_a_time() -> Iterator[Line]:
    """Every value of every setting of every mode that can run."""
    for mode in filter(can_run, MODES):
        yield from (Line(mode, ((key, value),)) for key, values in SWEPT[mode].items() for value in values)


def guidance() -> Iterator[Line]:
    """Guidance propagated from keyframes and computed for every frame, at each scale.

    The whole edit is never propagated, since guidance would be propagated with it.
    """
    for mode in filter(can_run, MODES):
        for scale in SCALES:
            for way in ("per_frame", "propagated"):
                yield Line(mode, (("guidance_scale", scale), ("guidance", way), ("propagate_edit_until", 0.0)))


def measure(lines: Sequence[Line]) -> dict[Line, list[Figures]]:
    """The figures of each line on each clip."""
    make_missing(list({cell.path: cell for line in lines for cell in line.cells}.values()))
    floors = {case.name: figures(case.truth, floor(case)) for case in TUNING}
    return {line: [_measured(cell, floors[cell.case.name]) for cell in line.cells] for line in lines}


def _measured(cell: Cell, of_floor: Figures) -> Figures:
    found = beside(figures(cell.case.truth, cell.images()), of_floor)
    return {**found, "seconds": cell.record()["seconds"]["edit"]}


def means(rows: Sequence[Figures]) -> Figures:
    """Means of all figures over the clips."""
    return {key: mean(rows, key) for key in COLUMNS}


def by_edit(lines: Sequence[Line], measured: dict[Line, list[Figures]]) -> str:
    """A table of warp error, detail and PSNR on each clip."""
    keys = {"warp_error_e3": "{:.2f}", "detail": "{:.2f}", "perfect_psnr": "{:.1f}"}
    head = [
        "mode",
        "guidance scale",
        "guidance",
        "mean",
        *(f"{next(iter(case.truth.changed))}: {case.edit}" for case in TUNING),
    ]
    body = []
    for line in lines:
        rows = [means(measured[line]), *measured[line]]
        start = [line.mode, *(str(dict(line.changes)[key]) for key in ("guidance_scale", "guidance"))]
        body.append(start + [" · ".join(form.format(row[key]) for key, form in keys.items()) for row in rows])
    return table(head, body)


def main() -> None:
    """Make what is missing, print the tables, and write them."""
    alone, together = list(one_at_a_time()), list(guidance())
    measured = measure([*alone, *together])
    head = ["mode", "setting", "value", *(title for title, _ in COLUMNS.values())]
    body = [[*line.shown, *shown_figures(means(measured[line]))] for line in alone]
    text = "\n\n".join(
        [
            *missing(),
            "Means over the tuning clips; defaults are bold. Seconds (s) are not comparable: the edits were made at "
            "different times on a machine that may have been shared.",
            table(head, body),
            "Guidance computed for every frame and propagated from keyframes, with the whole edit never propagated, on "
            "each clip: warp error × 10⁻³ · detail · PSNR.",
            by_edit(together, measured),
        ]
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "sweep.md").write_text(text + "\n")
    content = [
        {"mode": line.mode, "settings": dict(line.changes), **means(rows), "clips": rows}
        for line, rows in measured.items()
    ]
    write_json(RESULTS / "sweep.json", {"versions": versions(), "missing": missing(), "rows": content})
    print(text)


if __name__ == "__main__":
    main()
