"""The state of a job as HTML: the stage in plain words, a bar, the time left, what went wrong; and its preview."""

import base64
import io
from collections.abc import Mapping

from markupsafe import Markup, escape
from PIL import Image

from tokenflow.apps.web.jobs import Job
from tokenflow.apps.web.mistakes import ELSEWHERE, by_field
from tokenflow.events import Preview, Progress, stage_unit

STAGES = {
    "load": "Loading the model",
    "download": "Downloading",
    "read": "Reading the clip",
    "encode": "Encoding frames",
    "invert": "Inverting the clip",
    "reconstruct": "Checking the inversion",
    "compare": "Checking the inversion",
    "flow": "Following the motion",
    "match": "Matching features",
    "carry": "Carrying the edited frames",
    "region": "Finding the region",
    "edit": "Editing",
    "decode": "Decoding and measuring",
}

OUTLOOK = ("frames", "time", "memory", "disk")
"""What is shown of a dry run."""

NAMES = {"trial": "Three keyframes", "whole": "Whole clip", "compare": "Comparison"}

PREVIEW_WIDTH = 640
"""Pixels of a row of a preview; its frames are small, and enlarged by whole factors."""

PREVIEW_COLUMNS = 4
"""Frames in a row."""


def status_html(job: Job, ahead: int) -> str:
    """A job in a few lines.

    Args:
        job: any.
        ahead: how many others are done before it.
    """
    prompts = dict.fromkeys(config.edit.prompt for config in job.configs)
    heading = Markup("<strong>{}</strong>: {}").format(NAMES[job.kind], "; ".join(prompts))
    lines = [Markup("<p class=tf-heading>{}</p>").format(heading), _state(job, ahead)]
    lines += [Markup("<p class=tf-notice>{}</p>").format(notice) for notice in job.notices]
    return Markup('<div class="tf-status" role="status" data-state="{}">{}</div>').format(
        job.state, Markup("").join(lines)
    )


def _state(job: Job, ahead: int) -> Markup:
    match job.state:
        case "waiting":
            edits = "1 edit is" if ahead == 1 else f"{ahead} edits are"
            return Markup("<p>Waiting: {} done first.</p>").format(edits)
        case "running" if job.stop.is_set():
            return Markup("<p>Stopping before the next network call…</p>")
        case "running":
            return Markup("<p>Starting…</p>") if job.progress is None else _progress(job.progress)
        case "failed":
            return Markup("<p class=tf-mistake role=alert>{}</p>").format(_error(job))
        case "cancelled":
            return Markup("<p>Cancelled. What was finished is kept, and “Continue” goes on from there.</p>")
        case "done":
            return Markup("<p>Done: see below.</p>")


def _progress(event: Progress) -> Markup:
    number = "" if event.number is None else f"Stage {event.number} of {event.stages}: "
    is_counted = event.total is not None and event.total > 1
    counted = "" if not is_counted else f", {_counted(event.stage, event.done, event.total or 0)}"
    left = event.seconds_left if event.run_seconds_left is None else event.run_seconds_left
    time = "" if left is None else f", about {duration(left)} left"
    label = f" ({event.label})" if event.label else ""
    text = f"{number}{STAGES.get(event.stage, event.stage)}{label}{counted}{time}"
    reached = Markup('value="{}" max="{}"').format(event.done, event.total) if is_counted else ""
    bar = Markup('<progress aria-label="{}" {}></progress>').format(STAGES.get(event.stage, event.stage), reached)
    return Markup("<p>{}</p>{}").format(text, bar)


def _counted(stage: str, done: int, total: int) -> str:
    if stage_unit(stage) == "B":
        return bytes_of(done, total)
    return f"{stage_unit(stage)} {done} of {total}"


def bytes_of(done: int, total: int) -> str:
    """How much of a file has come, such as `1.2 of 3.4 GB (35 %)`."""
    unit, name, digits = (1e9, "GB", 1) if total >= 1e9 else (1e6, "MB", 0 if total >= 1e7 else 1)
    return f"{done / unit:.{digits}f} of {total / unit:.{digits}f} {name} ({done / total:.0%})".replace("%", " %")


def duration(seconds: float) -> str:
    """Seconds, or minutes where there are two or more."""
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{round(seconds / 60)} min"


def _error(job: Job) -> str:
    if job.error is None:
        return ""
    return "; ".join(f"{key}: {text}" if key != ELSEWHERE else text for key, text in by_field(job.error, ()).items())


def outlook_html(found: Mapping[str, str]) -> str:
    """What an edit would take, by the names of the command line."""
    rows = [Markup("<dt>{}</dt><dd>{}</dd>").format(name.capitalize(), found[name]) for name in OUTLOOK]
    return str(Markup('<dl class="tf-outlook" role="status">{}</dl>').format(Markup("").join(rows)))


def preview_html(preview: Preview | None) -> str:
    """The frames of a preview in rows; empty if there is none."""
    if preview is None:
        return ""
    frames = preview.frames
    columns = min(PREVIEW_COLUMNS, len(frames))
    frames = frames[: len(frames) // columns * columns]  # f h w 3, whole rows
    rows = frames.reshape(-1, columns, *frames.shape[1:])  # r k h w 3
    sheet = rows.swapaxes(1, 2).reshape(-1, columns * frames.shape[2], 3)  # (r h) (k w) 3
    scale = max(1, PREVIEW_WIDTH // sheet.shape[1])
    sheet = sheet.repeat(scale, 0).repeat(scale, 1)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    text = f"Preview after step {preview.step + 1}, {len(frames)} frames of the clip"
    data = base64.b64encode(file.getvalue()).decode()
    return str(Markup('<img class="tf-preview" alt="{}" src="data:image/png;base64,{}">').format(escape(text), data))
