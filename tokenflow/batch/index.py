"""The overview page of a batch: the videos of every clip's edits, and their figures in one sortable table.

It needs neither server nor network. The template is index.html beside this file.
"""

from collections import Counter, defaultdict
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


@dataclass(frozen=True)
class Cell:
    """A job as the page shows it. Links are relative to the page, and None for what the result does not have.

    Attributes:
        output: the folder of its result.
        state: waiting, running, done, failed; or damaged, if the result can no longer be read.
        clip, source: the clip and its prompt.
        edit, mode: the prompt and the mode of the edit.
        note: what tells it from other edits of the clip with the same prompt: mode, and folder if they share that too.
        figures: one per column of numbers; None for what was not measured.
        remarks: reasons and warnings.
        video, comparison, sheet, page: links to files of the result.
    """

    output: str
    state: str
    clip: str
    source: str
    edit: str
    mode: str
    note: str
    figures: Sequence[float | None]
    remarks: str
    video: str | None = None
    comparison: str | None = None
    sheet: str | None = None
    page: str | None = None


def write_index(path: Path, jobs: Sequence[Job], records: Sequence[Record]) -> None:
    """Write the page atomically."""
    notes = _notes(jobs)
    clips: defaultdict[str, list[Cell]] = defaultdict(list)
    for job, record, note in zip(jobs, records, notes, strict=True):
        clips[_clip(job)].append(_cell(path.parent, job, record, note))
    template = open_template(Path(__file__).with_suffix(".html"), shown=_shown)
    page = template.render(
        name=path.parent.resolve().name,
        summary=summary(records),
        columns=COLUMNS,
        zip=zip,
        measured=[column.title for column in COLUMNS if column.is_number],
        clips=list(clips.values()),
        cells=[cell for cells in clips.values() for cell in cells],
    )
    write_text(path, page)


def summary(records: Sequence[Record]) -> str:
    """The number of jobs, and how many are in each state."""
    states = [record.state for record in records]
    counts = [f"{states.count(state)} {state}" for state in ("done", "failed", "waiting") if state in states]
    return f"{len(records)} job{'s' * (len(records) != 1)}: {', '.join(counts)}"


def _clip(job: Job) -> str:
    """Equal for jobs with the same part of the same clip and the same prompt for it."""
    return job.config.clip.model_dump_json()


def _notes(jobs: Sequence[Job]) -> list[str]:
    """For each job, what tells it from those of its clip with the same prompt."""
    prompts = [(_clip(job), job.config.edit.prompt) for job in jobs]
    modes = [(*prompt, job.config.edit.mode) for prompt, job in zip(prompts, jobs, strict=True)]
    with_prompt, with_mode = Counter(prompts), Counter(modes)
    return [
        " · ".join([mode[-1]] * (with_prompt[prompt] > 1) + [job.output.name] * (with_mode[mode] > 1))
        for job, prompt, mode in zip(jobs, prompts, modes, strict=True)
    ]


def _cell(folder: Path, job: Job, record: Record, note: str) -> Cell:
    config = job.config
    result, damage = _result(record)
    files = {} if result is None else _links(folder, result)
    return Cell(
        output=record.output,
        state=record.state if damage is None else "damaged",
        clip=config.clip.path.name,
        source=config.clip.prompt,
        edit=config.edit.prompt,
        mode=config.edit.mode,
        note=note,
        figures=_figures(record, result),
        remarks=" · ".join(filter(None, [record.reason, *record.warnings, damage])),
        **files,
    )


def _links(folder: Path, result: EditResult) -> dict[str, str | None]:
    """Links from a page in the folder to the files that a result has."""
    files = {
        "video": result.video,
        "comparison": result.comparison,
        "sheet": result.contact_sheet,
        "page": result.page,
    }
    return {name: None if file is None else _url(file, folder) for name, file in files.items()}


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
