"""`make sweep`: what each setting of the modes does, one at a time around the defaults, on clips that are not the
benchmark's. The defaults in tokenflow/config.py are chosen from its table.

Resumes as the benchmark does. Writes benchmarks/results/sweep.json and sweep.md beside it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.cells import Cell, Figures, can_run, figures, floor
from benchmarks.clips import TUNING
from benchmarks.quality import make_missing
from benchmarks.quality_document import COLUMNS, MODES, RESULTS, mean, missing, shown_figures, table
from tokenflow.config import Edit
from tokenflow.report import versions, write_json

SHARED: dict[str, tuple[Any, ...]] = {"guidance_scale": (3.0, 4.0, 5.0, 7.5), "keyframe_interval": (4, 8)}
SWEPT: dict[str, dict[str, tuple[Any, ...]]] = {
    "pnp": {"pnp.features_until": (0.4, 0.6, 0.8, 1.0), "pnp.attention_until": (0.2, 0.5, 0.8, 1.0), **SHARED},
    "sdedit": {"sdedit.strength": (0.5, 0.6, 0.7, 0.8), "sdedit.noise": ("inversion", "shared"), **SHARED},
    "controlnet": {
        "controlnet.scale": (0.5, 0.75, 1.0),
        "controlnet.end": (0.6, 0.8, 1.0),
        "controlnet.noise": ("inversion", "shared"),
        **SHARED,
    },
}


def default(key: str) -> Any:
    """What tokenflow takes for a dotted key below `edit`."""
    value: Any = Edit(prompt="")
    for name in key.split("."):
        value = getattr(value, name)
    return value


def settings(mode: str, key: str, value: Any) -> tuple[tuple[str, Any], ...]:
    """Of a cell; a default is left out, so that it is made once for all tables."""
    return (("mode", mode), *(() if value == default(key) else ((key, value),)))


def planned() -> Iterator[tuple[str, str, Any]]:
    """Mode, setting and value of every line."""
    for mode in MODES:
        if can_run(mode):
            yield from ((mode, key, value) for key, values in SWEPT[mode].items() for value in values)


def measure(lines: Sequence[tuple[str, str, Any]]) -> list[Figures]:
    """The means of each line over all clips."""
    cells = {line: [Cell(case, settings(*line)) for case in TUNING] for line in lines}
    make_missing(list({cell.path: cell for of_line in cells.values() for cell in of_line}.values()))
    floors = {case.name: figures(case.truth, floor(case))["warp_error_e3"] for case in TUNING}
    means = []
    for line in lines:
        rows = [figures(cell.case.truth, cell.pictures()) for cell in cells[line]]
        for row, cell in zip(rows, cells[line], strict=True):
            row["to_floor"] = row["warp_error_e3"] / floors[cell.case.name]
            row["seconds"] = cell.record()["seconds"]["edit"]
        means.append({key: mean(rows, key) for key in COLUMNS})
    return means


def main() -> None:
    """Makes what is missing, prints the table, and writes it."""
    lines = list(planned())
    means = measure(lines)
    head = ["mode", "setting", "value", *(title for title, _ in COLUMNS.values())]
    body = [
        [mode, key, f"**{value}**" if value == default(key) else str(value), *shown]
        for (mode, key, value), shown in zip(lines, map(shown_figures, means), strict=True)
    ]
    text = "\n\n".join([*missing(), "Means over the tuning clips; defaults are bold.", table(head, body)])
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "sweep.md").write_text(text + "\n")
    content = [
        {"mode": mode, "setting": key, "value": value, **of_it}
        for (mode, key, value), of_it in zip(lines, means, strict=True)
    ]
    write_json(RESULTS / "sweep.json", {"versions": versions(), "missing": missing(), "rows": content})
    print(text)


if __name__ == "__main__":
    main()
