"""`make quality`: how good edits are, measured against the perfect edit of drawn clips.

The full cross product would take hours, so this is the design: twelve clips of twelve frames (clips.py), sixteen edits,
one inversion per clip. Plug-and-Play does every edit, the other modes the first of each kind; each per frame and
by TokenFlow with flow. TokenFlow with nearest features: the first edit of each kind by Plug-and-Play, and the first
material edit by the other modes. Settings are tokenflow's defaults. Each edit is listed beside its floor, the perfect
edit through the autoencoder, and the unedited source.

Resumes (cells.py). Writes benchmarks/results/quality.json, and docs/quality.md (quality_document.py). With --quick: two
edits, printed only. With --modes or --propagations: those only, printed and put into
the JSON.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.cells import Cell, Figures, can_run, figures, floor
from benchmarks.clips import BENCHMARK, KINDS, Case
from benchmarks.quality_document import (
    AVERAGED,
    DOCUMENT,
    MODES,
    RESULTS,
    References,
    Row,
    goals_table,
    means_table,
    minutes,
    missing,
    rows_table,
    write_document,
    write_rows,
)

PROPAGATIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    "per frame": (("propagation", "none"),),
    "flow": (("propagation", "tokenflow"), ("correspondence", "flow")),
    "nearest": (("propagation", "tokenflow"), ("correspondence", "nearest")),
}


def design(quick: bool = False) -> Iterator[tuple[Case, str, str]]:
    """Which edits are made, by which mode and propagation: see the module's docstring."""
    first = {kind: next(case for case in BENCHMARK if case.kind == kind) for kind in KINDS}
    if quick:
        for case, mode in ((first["object"], "pnp"), *((first["material"], mode) for mode in MODES)):
            yield from ((case, mode, propagation) for propagation in ("per frame", "flow"))
        return
    for mode in MODES:
        for case in BENCHMARK if mode == "pnp" else first.values():
            yield from ((case, mode, propagation) for propagation in ("per frame", "flow"))
            if case is first["material"] or (mode == "pnp" and case in first.values()):
                yield case, mode, "nearest"


def make_missing(cells: Sequence[Cell]) -> None:
    """Make the cells that are missing, and print progress."""
    missing = [cell for cell in cells if not cell.done]
    begin = time.perf_counter()
    for count, cell in enumerate(missing, 1):
        cell.make()
        passed = (time.perf_counter() - begin) / 60
        print(f"{count}/{len(missing)} in {passed:.1f} min: {cell.path.name}", flush=True)


def measure(planned: Sequence[tuple[Case, str, str]]) -> tuple[list[Row], References]:
    """Every row, and the floor and the source of every edit."""
    cells = [Cell(case, (("mode", mode), *PROPAGATIONS[propagation])) for case, mode, propagation in planned]
    make_missing(cells)
    cases = {case.name: case for case, _, _ in planned}
    floors = {name: figures(case.truth, floor(case)) for name, case in cases.items()}
    sources = {
        # The source preserves itself with an infinite PSNR.
        name: {**figures(case.truth, case.truth.frames), "preservation_psnr": None}
        for name, case in cases.items()
    }
    references = {
        reference: {name: beside(values, floors[name]) for name, values in of_edits.items()}
        for reference, of_edits in (("floor", floors), ("source", sources))
    }
    rows = []
    for (case, mode, propagation), cell in zip(planned, cells, strict=True):
        row = _measured(Row(case, mode, propagation, cell, {}), floors)
        rows.append(replace(row, figures={**row.figures, "seconds": cell.record()["seconds"]["edit"]}))
        if propagation == "per frame":
            rows.append(_measured(replace(row, propagation=AVERAGED), floors))
    return rows, references


def _measured(row: Row, floors: Mapping[str, Figures]) -> Row:
    return replace(row, figures=beside(figures(row.case.truth, row.images), floors[row.case.name]))


def beside(values: Figures, of_floor: Figures) -> Figures:
    """The same figures, with the warp error relative to the floor's."""
    return {**values, "to_floor": values["warp_error_e3"] / of_floor["warp_error_e3"]}


def main() -> None:
    """Make what is missing, print the tables, and write the document and JSON, or less if less is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two edits; nothing is written to docs/")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="only these; no document is written")
    parser.add_argument("--propagations", nargs="+", choices=PROPAGATIONS, default=list(PROPAGATIONS), help="likewise")
    arguments = parser.parse_args()
    quick, modes, propagations = arguments.quick, arguments.modes, arguments.propagations
    planned = [each for each in design(quick) if each[1] in modes and each[2] in propagations]
    rows, references = measure([each for each in planned if can_run(each[1])])
    print("\n\n".join([*missing(), means_table(rows, references), goals_table(rows)]))
    print(f"\nAll edits together took {minutes(rows):.1f} minutes.")
    if quick:
        print(rows_table(rows, references))
    elif set(modes) != set(MODES) or set(propagations) != set(PROPAGATIONS):
        write_rows(rows, references)
    else:
        write_document(rows, references)
        print(f"\nWrote {DOCUMENT} and {RESULTS / 'quality.json'}.")


if __name__ == "__main__":
    main()
