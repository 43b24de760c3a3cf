"""The overview page of a batch: images and figures of all results in one sortable table, without a server or network.

The template is index.html beside this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tokenflow.batch.jobs import Job
from tokenflow.batch.record import Record
from tokenflow.errors import TokenflowError
from tokenflow.pipeline import EditResult
from tokenflow.report import open_template
from tokenflow.store.files import write_text


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: its heading.
        is_number: whether it holds numbers.
    """

    title: str
    is_number: bool = False


COLUMNS = (
    Column("result"),
    Column("state"),
    Column("clip"),
    Column("edit"),
    Column("mode"),
    Column("frames", is_number=True),
    Column("seconds", is_number=True),
    Column("inversion, dB", is_number=True),
    Column("warp error of source, × 10⁻³", is_number=True),
    Column("warp error of edit, × 10⁻³", is_number=True),
    Column("memory, MiB", is_number=True),
    Column("remarks"),
)


def write_index(path: Path, jobs: Sequence[Job], records: Sequence[Record]) -> None:
    """Write the page atomically."""
    template = open_template(Path(__file__).with_suffix(".html"), shown=_shown)
    page = template.render(
        name=path.parent.resolve().name,
        summary=summary(records),
        columns=COLUMNS,
        rows=[_row(path.parent, job, record) for job, record in zip(jobs, records, strict=True)],
    )
    write_text(path, page)


def summary(records: Sequence[Record]) -> str:
    """The number of jobs, and how many are in each state."""
    states = [record.state for record in records]
    counts = [f"{states.count(state)} {state}" for state in ("done", "failed", "waiting") if state in states]
    return f"{len(records)} job{'s' * (len(records) != 1)}: {', '.join(counts)}"


def _row(folder: Path, job: Job, record: Record) -> dict[str, Any]:
    config = job.config
    result, damage = _result(record)
    remarks = [record.reason, *record.warnings, damage]
    row: dict[str, Any] = {
        "output": record.output,
        "state": record.state,
        "clip": config.clip.path.name,
        "source": config.clip.prompt,
        "edit": config.edit.prompt,
        "mode": config.edit.mode,
        "figures": _figures(record, result),
        "remarks": " · ".join(filter(None, remarks)),
        "link": None,
        "sheet": None,
    }
    if result is not None:
        row["link"] = _url(result.page or result.video, folder)
        row["sheet"] = result.contact_sheet and _url(result.contact_sheet, folder)
    return row


def _url(path: Path, folder: Path) -> str:
    """A link from a page in the folder, relative so that both can be moved together."""
    try:
        return quote(Path(relpath(path, folder)).as_posix())
    except ValueError:  # on another drive of Windows
        return path.absolute().as_uri()


def _result(record: Record) -> tuple[EditResult | None, str | None]:
    """The result of a job that is done; or why it cannot be read, if it was damaged since."""
    if record.state != "done":
        return None, None
    try:
        return record.result(), None
    except TokenflowError as error:
        return None, str(error)


def _figures(record: Record, result: EditResult | None) -> list[float | None]:
    """Frames, seconds, PSNR of the inversion, warp errors, peak memory; None for what was not measured."""
    if result is None:
        return [None, record.seconds, None, None, None, None]
    report: dict[str, Any] = result.report
    metrics = report["metrics"]  # without those that are switched off
    warp_error = metrics.get("warp_error_e3", {})  # one frame has none
    return [
        report["frames"],
        record.seconds,
        metrics.get("reconstruction", {}).get("inversion_psnr"),
        warp_error.get("source"),
        warp_error.get("edit"),
        report.get("peak_memory_mb"),
    ]


def _shown(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"
