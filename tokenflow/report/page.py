"""A run as one page that opens from disk in any browser: report.html. The template is page.html beside this file."""

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
"""The coding that all browsers play, by container; AV1 asks Safari for a machine that decodes it."""
PLAYABLE_PROFILES = {"Constrained Baseline", "Main", "High", "Profile 0"}
"""Its profiles that they play: 8 bits and 4:2:0. Of a lossless H.264 video some show nothing."""
MAX_BYTES = 24 * 2**20
"""The largest video that goes into the page as it is; of any other, a smaller copy does."""
PREVIEW = 960, 540
"""The box in pixels that such a copy fits into."""
PREVIEW_QUALITY = 28
"""Its constant rate factor."""


@dataclass(frozen=True)
class Figure:
    """How a figure is shown.

    Attributes:
        key: its name in report.json.
        title: its name on the page.
        unit: behind the title.
        meaning: one sentence for a reader who has not met it.
        first: the frame that its first value over time belongs to: of a pair the later, of three the middle one.
    """

    key: str
    title: str
    unit: str
    meaning: str
    first: int = 0


FIGURES = (
    Figure(
        "warp_error_e3",
        "Warp error",
        "× 10⁻³",
        "Squared change along the source's motion. Lower is steadier; it should be near the reconstruction's.",
        first=1,
    ),
    Figure(
        "flicker",
        "Flicker",
        "of 255",
        "How far a pixel jumps from the mean of its neighbours in time, along the motion. Lower is steadier.",
        first=1,
    ),
    Figure(
        "detail",
        "Detail",
        "× the source's",
        "Energy of gradients. Far below the reconstruction's, steadiness was bought with blur.",
    ),
    Figure(
        "change",
        "Change",
        "of 255",
        "Mean difference from the source. Outside of a mask it should be small, inside it is the edit.",
    ),
    Figure(
        "clip_text",
        "CLIP text score",
        "cosine",
        "How well frames fit the edit's prompt. It should lie above the source's.",
    ),
    Figure(
        "clip_consistency",
        "CLIP frame consistency",
        "cosine",
        "How much neighbouring frames resemble each other. It should be near the source's.",
        first=1,
    ),
)


@dataclass(frozen=True)
class Memory:
    """The most that was taken of one kind of memory, in MiB.

    Attributes:
        title: at the head of its column.
        by_stage: of each stage, by name.
        of_all: of the whole run.
    """

    title: str
    by_stage: Mapping[str, float]
    of_all: float


def write_page(path: Path, content: Mapping[str, Any], comparison: Path, contact_sheet: Path) -> None:
    """Write a run's report.json as a page, with its pictures in it.

    Args:
        path: of the page.
        content: of report.json.
        comparison: the video of source and edit side by side.
        contact_sheet: a PNG.
    """
    settings = content["settings"]
    page = open_template(Path(__file__).with_suffix(".html"), percent=_percent).render(
        content=content,
        settings=settings,
        chips=list(_chips(settings, content["frames"])),
        reconstruction=content["metrics"]["reconstruction"],
        figures=[figure for figure in FIGURES if figure.key in content["metrics"]],
        plots=dict(_plots(content["over_time"])),
        memories=list(_memories(content)),
        flat=dict(_flattened(settings)),
        video=_video(comparison),
        sheet=_data_uri("image/png", contact_sheet),
    )
    path.write_text(page, encoding="utf-8")


def _chips(settings: Mapping[str, Any], frames: int) -> Iterator[str]:
    """What a reader wants to know of the settings at first sight."""
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
    """A value as a share of the largest, for a bar: below 0 it has no length, and above it is full."""
    return f"{min(max(value / most, 0.0), 1.0) * 100 if most > 0 else 0.0:.1f}"


def _plots(over_time: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Iterator[tuple[str, Markup]]:
    """Key and plot of each figure that has two values or more."""
    for figure in FIGURES:
        series = over_time.get(figure.key, {})
        if max(map(len, series.values()), default=0) > 1:
            yield figure.key, line_plot(figure.title, series, figure.first)


def _memories(content: Mapping[str, Any]) -> Iterator[Memory]:
    """Each kind of memory that was measured; that of a GPU is where there is one."""
    for title, key in (("peak memory", "peak_memory_mb"), ("peak GPU memory", "peak_gpu_memory_mb")):
        if key in content:
            yield Memory(title, content[f"stage_{key}"], content[key])


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, as a command line takes them."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "null" if value is None else value


def _video(comparison: Path) -> Markup:
    """The comparison as a data URI, as it is, or where browsers could not play it so, as a smaller copy."""
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
