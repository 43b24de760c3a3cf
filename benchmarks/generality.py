"""`make generality`: edits of clips by another generator, and of the bundled clips and their mirror images.

Settings are tokenflow's defaults. Clips by the generator of tools/mini_sd/held_out.py, of which no model has seen a
picture, are edited per frame and by TokenFlow. The bundled clips and their mirror images are edited with the same
words: an editor that knows objects both ways round does both equally well.

Resumes (cells.py). Writes benchmarks/results/generality.json and docs/generality.md, of which what follows `## Notes`
is written by hand, and kept.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.cells import Cell, Figures, figures
from benchmarks.clips import BUNDLED, HELD_OUT, Case, mirrored
from benchmarks.output import rows_table, write_json
from benchmarks.quality import PROPAGATIONS, make_missing

DOCUMENT, RESULTS = Path("docs/generality.md"), Path("benchmarks/results/generality.json")
NOTES = "## Notes"
COLUMNS = {
    "agreement": "agrees",
    "agreement_kept": "kept words agree",
    "preservation_psnr": "outside, dB",
    "detail": "detail",
    "warp_error_e3": "warp error",
}
HEAD = """# Clips of another hand, and mirror images

Written by `make generality` (`benchmarks/generality.py`). Means over edits, with default settings. Agrees: fraction of
frames in which the classifier sees every word that the edit changes; kept words: the words that it leaves. Outside:
PSNR to the source where nothing is meant to change. Detail: gradient energy relative to the perfect edit's. Warp error:
× 10⁻³, along exact flow. More in [metrics.md](metrics.md).
"""


def cell(case: Case, propagation: str) -> Cell:
    """An edit by default settings."""
    return Cell(case, (("mode", "pnp"), *PROPAGATIONS[propagation]))


def means(cells: Iterable[Cell]) -> Figures:
    """The mean of each figure over edits, where it is defined."""
    measured = [figures(each.case.truth, each.images()) for each in cells]
    found = {key: [value for each in measured if (value := each[key]) is not None] for key in COLUMNS}
    return {key: float(np.mean(values)) if values else None for key, values in found.items()}


def rows(groups: dict[str, Sequence[Cell]]) -> list[dict[str, object]]:
    """A row per group of edits."""
    measured = ((name, means(cells)) for name, cells in groups.items())
    return [{"clips": name} | {COLUMNS[key]: value for key, value in each.items()} for name, each in measured]


def main() -> None:
    """Make what is missing; print and write the tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    designed = {
        "another generator's, per frame": (HELD_OUT, "per frame"),
        "another generator's, TokenFlow": (HELD_OUT, "flow"),
        "bundled": (BUNDLED, "flow"),
        "bundled, mirrored": ([mirrored(case) for case in BUNDLED], "flow"),
    }
    groups = {name: [cell(case, propagation) for case in cases] for name, (cases, propagation) in designed.items()}
    make_missing([each for cells in groups.values() for each in cells])
    each = {f"{one.case.name}, {name}": [one] for name, cells in groups.items() for one in cells}
    means_of_groups, edits = rows(groups), rows(each)
    print(rows_table(means_of_groups), rows_table(edits), sep="\n\n")
    notes = DOCUMENT.read_text(encoding="utf-8").partition(NOTES)[2] if DOCUMENT.is_file() else "\n"
    tables = f"{rows_table(means_of_groups)}\n\n## Per edit\n\n{rows_table(edits)}"
    DOCUMENT.write_text(f"{HEAD}\n{tables}\n\n{NOTES}{notes}", encoding="utf-8")
    write_json(RESULTS, {"groups": means_of_groups, "edits": edits})


if __name__ == "__main__":
    main()
