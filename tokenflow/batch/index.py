"""index.html: every result's picture and figures in one table that sorts by a click. Needs no server and no network."""

from collections.abc import Sequence
from html import escape
from os.path import relpath
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from tokenflow.batch.jobs import Job
from tokenflow.batch.record import Record

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$title</title>
<style>
  body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
  table { border-collapse: collapse; }
  th, td { padding: .4em .8em; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
  th { cursor: pointer; position: sticky; top: 0; background: #fff; white-space: nowrap; }
  th[aria-sort=ascending]::after { content: " ▲"; }
  th[aria-sort=descending]::after { content: " ▼"; }
  td.number { text-align: right; font-variant-numeric: tabular-nums; }
  td.failed { color: #b00; }
  img { width: 32em; max-width: 45vw; display: block; }
  small { color: #666; }
</style>
<h1>$title</h1>
<p>$summary</p>
<table>
<thead><tr>$head</tr></thead>
<tbody>
$rows
</tbody>
</table>
<script>
  const body = document.querySelector("tbody");
  document.querySelectorAll("th").forEach((header, column) => header.addEventListener("click", () => {
    const down = header.getAttribute("aria-sort") === "ascending";
    document.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.value;
    const compare = (a, b) => a === "" || b === "" ? (a === "") - (b === "")   // what is unknown comes last
      : (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b) * (down ? -1 : 1);
    [...body.rows].sort((a, b) => compare(value(a), value(b))).forEach(row => body.append(row));
  }));
</script>
</html>
""")

COLUMNS = (
    "result",
    "state",
    "clip",
    "edit",
    "mode",
    "frames",
    "seconds",
    "inversion, dB",
    "warp error, source, ×1e-3",
    "warp error, edit, ×1e-3",
    "memory, MiB",
    "remarks",
)


def write_index(path: Path, jobs: Sequence[Job], records: Sequence[Record]) -> None:
    """Write the overview: whole, or not at all."""
    rows = "\n".join(_row(path.parent, job, record) for job, record in zip(jobs, records, strict=True))
    page = PAGE.substitute(
        title=escape(path.parent.resolve().name),
        summary=escape(summary(records)),
        head="".join(f"<th>{escape(column)}</th>" for column in COLUMNS),
        rows=rows,
    )
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(page)
    temporary.replace(path)


def summary(records: Sequence[Record]) -> str:
    """How many jobs stand how, in words."""
    states = [record.state for record in records]
    counts = [f"{states.count(state)} {state}" for state in ("done", "failed", "waiting") if state in states]
    return f"{len(records)} jobs: {', '.join(counts)}"


def _row(folder: Path, job: Job, record: Record) -> str:
    config = job.config
    figures = _figures(record)
    remarks = [*([record.reason] if record.reason else []), *record.warnings]
    cells = [
        _cell(str(job.output), _picture(folder, record)),
        _cell(record.state, kind="failed" if record.state == "failed" else ""),
        _cell(
            f"{config.clip.path.name}",
            f"{escape(config.clip.path.name)}<br><small>{escape(config.clip.prompt)}</small>",
        ),
        _cell(config.edit.prompt),
        _cell(config.edit.mode),
        *(_number(value) for value in figures),
        _cell(" · ".join(remarks)),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _figures(record: Record) -> list[float | None]:
    """Frames, seconds, PSNR of the inversion, warp errors, peak memory; None for what is not known."""
    if record.state != "done":
        return [None, record.seconds, None, None, None, None]
    report: dict[str, Any] = record.result().report
    metrics = report["metrics"]
    return [
        report["frames"],
        record.seconds,
        metrics["reconstruction"]["inversion_psnr"],
        metrics["warp_error_e3"].get("source"),
        metrics["warp_error_e3"].get("edit"),
        report["peak_memory_mb"],
    ]


def _picture(folder: Path, record: Record) -> str:
    """The contact sheet, which leads to the video side by side; of no result its place."""
    if record.state != "done":
        return escape(record.output)
    result = record.result()
    sheet, video = (quote(relpath(path, folder)) for path in (result.contact_sheet, result.comparison))
    return f'<a href="{video}"><img loading="lazy" alt="" src="{sheet}">{escape(record.output)}</a>'


def _cell(value: str, shown: str | None = None, kind: str = "") -> str:
    return f'<td class="{kind}" data-value="{escape(value)}">{escape(value) if shown is None else shown}</td>'


def _number(value: float | None) -> str:
    shown = "" if value is None else f"{value:.0f}" if value == int(value) else f"{value:.2f}"
    return f'<td class="number" data-value="{"" if value is None else value}">{shown}</td>'
