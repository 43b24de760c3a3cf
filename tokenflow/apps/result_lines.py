"""What `tokenflow preprocess` and `tokenflow edit` print when they are done."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenflow.pipeline import EditResult, PreprocessResult

FIGURES = (
    ("warp_error_e3", "warp error", "× 10⁻³"),
    ("detail", "detail", "× the source's"),
    ("change", "change", "grey levels of 255"),
)
"""Figures of an edit: name in report.json, name and unit on the terminal."""


def preprocess_lines(result: "PreprocessResult") -> list[str]:
    """What stage 1 found, and where it is."""
    lines = {"frames": str(result.frame_count)}
    if result.report is None:
        lines["inversion"] = str(result.folder)
    else:
        lines |= _reconstruction(result.report["reconstruction"])
        lines["video"] = str(result.reconstruction)
    return aligned(lines)


def edit_lines(result: "EditResult") -> list[str]:
    """The verdict, what was found and how long it took, then the files."""
    from tokenflow.metrics import Verdict  # imports torch, for which --help should not wait
    from tokenflow.report import reused_inversion

    report = result.report
    metrics = report["metrics"]
    lines: dict[str, str] = {}
    if "verdict" in report:
        lines["verdict"] = str(Verdict(**report["verdict"]))
    if "reconstruction" in metrics:
        lines |= _reconstruction(metrics["reconstruction"])
    for key, name, unit in FIGURES:
        if key in metrics:
            lines[name] = f"{_beside_others(metrics[key])} {unit}"
    if (reused := reused_inversion(report)) is not None:
        lines["inversion"] = reused
    lines["time"] = f"{sum(report['seconds'].values()):.0f} s"
    if report.get("regions"):
        lines["may change"] = "; ".join(map(_region, report["regions"]))
    files = {
        "edited": result.video,
        "comparison": result.comparison,
        "region": result.region,
        "contact sheet": result.contact_sheet,
        "report": result.page,
    }
    return aligned(lines | {name: str(path) for name, path in files.items() if path is not None})


def _region(region: Mapping[str, Any]) -> str:
    """How a region was found, and how large it is."""
    if region["everywhere"]:
        return (
            f"auto: the whole frame, since the prompt changes {region['changed']:.0%} of the frames and "
            f"{region['border_changed']:.0%} of their border; edit.regions=[] switches the search off"
        )
    words = f" {region['words']!r}" if region["words"] else ""
    return f"{region['by']}{words}: {region['share']:.0%} of the frame"


def _reconstruction(figures: Mapping[str, float]) -> dict[str, str]:
    """How well autoencoder and inversion represent the source."""
    return {
        "autoencoder": f"{figures['autoencoder_psnr']:.2f} dB PSNR, {figures['autoencoder_ssim']:.3f} SSIM",
        "reconstruction": f"{figures['inversion_psnr']:.2f} dB PSNR, {figures['inversion_ssim']:.3f} SSIM",
    }


def _beside_others(values: Mapping[str, Any]) -> str:
    """A figure of the edit, with those of reconstruction and source in brackets."""
    edit = values.get("edit", values.get("whole"))
    others = ", ".join(f"{name} {values[name]:.3g}" for name in ("reconstruction", "source") if name in values)
    return f"{edit:.3g} ({others})" if others else f"{edit:.3g}"


def aligned(lines: Mapping[str, str]) -> list[str]:
    """Lines of a name and a text each, the texts one below the other."""
    width = max(map(len, lines))
    return [f"{name:<{width}}  {text}" for name, text in lines.items()]
