"""Writes what a benchmark measured: tables in Markdown, and JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, of a header and lines of text."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def rows_table(rows: Sequence[Mapping[str, object]]) -> str:
    """A table in Markdown of rows with the same columns; numbers with three decimals, a dash for None."""
    columns = list(rows[0])
    return table(columns, [[_cell(row[column]) for column in columns] for row in rows])


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, and the folder it is in: the file is complete, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
