"""report.html: a run as one self-contained page. Its template is page.html beside this file."""

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tokenflow.report.plot import line_plot
from tokenflow.report.template import open_template
from tokenflow.video import VideoWriter, fit_size, probe, read_frames, resize

PLAYABLE = {".mp4": "h264", ".mov": "h264", ".webm": "vp9"}
"""Container -> the codec that all browsers play in it. Safari plays AV1 only where the hardware decodes it."""
PLAYABLE_PROFILES = {"Constrained Baseline", "Main", "High", "Profile 0"}
"""The profiles of these that they play: 8 bits, 4:2:0. Some browsers show nothing for lossless H.264."""
MAX_BYTES = 24 * 2**20
"""Larger videos are embedded as a smaller copy."""
PREVIEW = 960, 540
"""Maximum width and height of such a copy, in pixels."""
PREVIEW_QUALITY = 28
"""Constant rate factor of such a copy."""


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        key: its name in report.json.
        title: its name on the page.
        unit: shown after the title.
        meaning: what it is and what to look for, for a reader who has not met it.
        first: index of the frame that its first value over time belongs to: the later of a pair, the middle of three.
    """

    key: str
    title: str
    unit: str
    meaning: str
    first: int = 0


METRICS = (
    Metric(
        "warp_error_e3",
        "Warp error",
        "× 10⁻³",
        "Squared change along the source's motion. Lower is steadier; should be close to the reconstruction's.",
        first=1,
    ),
    Metric(
        "flicker",
        "Flicker",
        "of 255",
        "Distance of a pixel from the mean of its temporal neighbours, along the motion. Lower is steadier.",
        first=1,
    ),
    Metric(
        "detail",
        "Detail",
        "× the source's",
        "Gradient energy. Far below the reconstruction's, steadiness was bought with blur.",
    ),
    Metric(
        "change",
        "Change",
        "of 255",
        "Mean difference from the source. Outside of the mask it should be small; inside, it is the edit.",
    ),
    Metric(
        "clip_text",
        "CLIP text score",
        "cosine",
        "How well frames fit the edit's prompt. Should be above the source's.",
    ),
    Metric(
        "clip_consistency",
        "CLIP frame consistency",
        "cosine",
        "How similar neighbouring frames are. Should be close to the source's.",
        first=1,
    ),
)


@dataclass(frozen=True)
class Memory:
    """Peak use of one kind of memory, in MiB.

    Attributes:
        title: column title.
        by_stage: peak per stage, by name.
        overall: peak of the whole run.
    """

    title: str
    by_stage: Mapping[str, float]
    overall: float


def write_page(
    path: Path, content: Mapping[str, Any], comparison: Path | None = None, contact_sheet: Path | None = None
) -> None:
    """Write a run as a page with everything embedded. Sections for which there is nothing are left out.

    Args:
        path: the page.
        content: what report.json holds; `metrics`, `metrics.reconstruction` and `over_time` may be absent.
        comparison: the video of source and edit side by side, if there is one.
        contact_sheet: the contact sheet, a PNG, if there is one.
    """
    settings = content["settings"]
    metrics = content.get("metrics", {})
    over_time = content.get("over_time", {})
    page = open_template(Path(__file__).with_suffix(".html"), percent=_percent).render(
        content=content,
        settings=settings,
        chips=list(_chips(settings, content["frames"])),
        reconstruction=metrics.get("reconstruction"),
        metrics=[(metric, metrics[metric.key]) for metric in METRICS if metric.key in metrics],
        plots=[(metric, over_time[metric.key], plot) for metric, plot in _plots(over_time)],
        memories=list(_memories(content)),
        flat=dict(_flattened(settings)),
        video=comparison and _video(comparison),
        sheet=contact_sheet and _data_uri("image/png", contact_sheet),
    )
    path.write_text(page, encoding="utf-8")


def _chips(settings: Mapping[str, Any], frames: int) -> Iterator[str]:
    """The most important settings, in a few words each."""
    edit = settings["edit"]
    yield _counted(frames, "frame")
    yield edit["mode"]
    yield edit["propagation"] if edit["propagation"] == "none" else f"{edit['propagation']}, {edit['correspondence']}"
    yield _counted(edit["steps"], "step")
    yield f"guidance {edit['guidance_scale']:g}"
    yield f"seed {edit['seed']}"
    yield settings["model"]["path"]


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"


def _percent(value: float, most: float) -> str:
    """A value in percent of the largest, for the length of a bar: from 0 for negative values to 100."""
    return f"{min(max(value / most, 0.0), 1.0) * 100 if most > 0 else 0.0:.1f}"


def _plots(over_time: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Iterator[tuple[Metric, Markup]]:
    """Each metric with two values or more, and its plot."""
    for metric in METRICS:
        series = over_time.get(metric.key, {})
        if max(map(len, series.values()), default=0) > 1:
            yield metric, line_plot(metric.title, series, metric.first)


def _memories(content: Mapping[str, Any]) -> Iterator[Memory]:
    """Each kind of memory that was measured."""
    for title, key in (("peak memory", "peak_memory_mb"), ("peak GPU memory", "peak_gpu_memory_mb")):
        if key in content:
            yield Memory(title, content[f"stage_{key}"], content[key])


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, as on the command line."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "null" if value is None else value


def _video(comparison: Path) -> Markup:
    """The comparison as a data URI: as it is if small enough and playable anywhere, otherwise as a smaller copy."""
    info, suffix = probe(comparison), comparison.suffix
    is_playable = info.codec == PLAYABLE.get(suffix) and info.profile in PLAYABLE_PROFILES
    if is_playable and comparison.stat().st_size <= MAX_BYTES:
        return _data_uri("video/webm" if suffix == ".webm" else "video/mp4", comparison)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "preview.mp4"
        _write_preview(comparison, copy)
        return _data_uri("video/mp4", copy)


def _write_preview(video: Path, copy: Path) -> None:
    info = probe(video)
    box = min(PREVIEW[0], info.width), min(PREVIEW[1], info.height)
    width, height = fit_size(info.width, info.height, box, 2)
    times, ends = zip(*((frame.time, frame.time + frame.duration) for frame in read_frames(video)), strict=True)
    with VideoWriter(copy, width=width, height=height, times=times, end=ends[-1], quality=PREVIEW_QUALITY) as writer:
        for frame in read_frames(video):
            writer.write(resize(frame.image, width, height))


def _data_uri(kind: str, path: Path) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}")
