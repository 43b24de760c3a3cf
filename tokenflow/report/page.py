"""report.html: a run as one self-contained page. Its template is page.html beside this file."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tokenflow.report.embedding import embed_comparison, embed_image
from tokenflow.report.plot import line_plot, round_ticks
from tokenflow.report.provenance import reused_inversion
from tokenflow.report.template import open_template

FILES = {
    "edited.*": "edited video",
    "comparison.*": "source and edit side by side",
    "region.*": "what the edit could change, white inside",
    "contact_sheet.png": "frames of both in one image",
    "config.yaml": "all settings",
}
"""The files of a result that the page links to, and what they are."""
REPORT = "report.json"
"""Written after the page, as it holds the page's checksum."""
MAX_PSNR = 50
"""Where the bars of PSNR end, in dB."""


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        key: its name in report.json.
        title: its name on the page.
        unit: shown after the title.
        meaning: what it is and what to look for, for a reader who has not met it.
        first: the frame, counted from 1, that its first value over time belongs to: the later of a pair, the middle of
            three.
    """

    key: str
    title: str
    unit: str
    meaning: str
    first: int = 1


METRICS = (
    Metric(
        "warp_error_e3",
        "Warp error",
        "× 10⁻³",
        "Squared change along the source's motion. Lower is steadier; should be close to the reconstruction's.",
        first=2,
    ),
    Metric(
        "flicker",
        "Flicker",
        "of 255",
        "Distance of a pixel from the mean of its temporal neighbours, along the motion. Lower is steadier.",
        first=2,
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
        "outlines",
        "Outlines",
        "share kept",
        "Share of the source's strong outlines that are still there. Lower where shapes change, meant to or not.",
    ),
    Metric(
        "words",
        "Prompt seen",
        "share of frames",
        "Frames in which the classifier sees every word of the prompt that it knows.",
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
        first=2,
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
    """Write a run as a page with everything embedded, and links to the files beside it. Sections for which there is
    nothing are left out.

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
        chips=[
            *_chips(settings, content["frames"]),
            *_weights(content.get("model")),
            *_regions(content.get("regions", [])),
        ],
        reconstruction=metrics.get("reconstruction"),
        max_psnr=MAX_PSNR,
        metrics=[
            (metric, metrics[metric.key], _scale(metrics[metric.key])) for metric in METRICS if metric.key in metrics
        ],
        plots=[(metric, over_time[metric.key], plot) for metric, plot in _plots(over_time)],
        memories=list(_memories(content)),
        flat=dict(_flattened(settings)),
        video=comparison and embed_comparison(comparison),
        sheet=contact_sheet and embed_image(contact_sheet),
        files=_files(path.parent),
        command=_command(settings),
        reused=reused_inversion(content),
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


def _weights(model: Mapping[str, Any] | None) -> Iterator[str]:
    """What the model's weights take in memory, and in which form, in a few words."""
    if model is not None:
        kinds = {"": model["quantization"], "text in ": model["text_encoder_quantization"]}
        yield ", ".join(
            [f"{model['weights_mb']:,.0f} MiB of weights", *(f"{part}{kind}" for part, kind in kinds.items() if kind)]
        )


def _regions(regions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the edit could change, in a few words per region."""
    for region in regions:
        part = "the whole frame" if region["everywhere"] else f"{region['share']:.0%} of the frame"
        yield f"region by {region['by']}: {part}"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"


def _files(folder: Path) -> dict[str, str]:
    """The files of the result beside the page: what they are, by name."""
    present = {path.name: title for pattern, title in FILES.items() for path in sorted(folder.glob(pattern))}
    return present | {REPORT: "figures as data"}


def _command(settings: Mapping[str, Any]) -> str:
    """The command that repeats the run, in the folder where it was started."""
    return f"tokenflow edit {shlex.quote((Path(settings['output']['dir']) / 'config.yaml').as_posix())}"


def _scale(values: Mapping[str, float]) -> float:
    """A round number that none of the values exceeds: where their bars end."""
    return round_ticks(0.0, max(0.0, *values.values()))[-1]


def _percent(value: float, most: float) -> str:
    """A value in percent of a larger one, for the length of a bar: from 0 for negative values to 100."""
    return f"{min(max(value / most, 0.0), 1.0) * 100:.1f}"


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
