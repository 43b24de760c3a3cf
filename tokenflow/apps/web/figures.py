"""The figures of a report in plain words: what is good, and what to change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

GOOD_PSNR = 30
"""dB from which on a reconstruction is good."""

STEADY = 1.5
"""Warp error of an edit, × its reconstruction's, up to which it is called steady."""

SHARP = 0.7
"""Detail of an edit, × its reconstruction's, from which on it is called sharp."""

CHANGED = 4
"""Mean difference from the source, in grey levels, from which on an edit is called visible."""


@dataclass(frozen=True)
class Finding:
    """One thing that a figure says.

    Attributes:
        is_good: whether nothing needs to be done.
        text: what was found.
        advice: what to change; empty if nothing.
    """

    is_good: bool
    text: str
    advice: str = ""


def findings(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """What the metrics of a report.json say. Thresholds are rules of thumb; the report has the figures themselves."""
    if "reconstruction" in metrics:
        yield _reconstruction(metrics["reconstruction"])
    if "warp_error_e3" in metrics:
        yield _steadiness(metrics["warp_error_e3"])
    if "detail" in metrics:
        yield _detail(metrics["detail"])
    if "change" in metrics:
        yield _change(metrics["change"])
    if "clip_text" in metrics:
        yield _prompt(metrics["clip_text"])


def _reconstruction(figures: Mapping[str, float]) -> Finding:
    inversion, autoencoder = figures["inversion_psnr"], figures["autoencoder_psnr"]
    found = f"the inversion gives the source back with {inversion:.1f} dB"
    if inversion >= GOOD_PSNR:
        return Finding(True, f"The model represents the clip well: {found}.")
    if autoencoder < GOOD_PSNR:
        advice = "Another model, or a larger size; no edit can be better than this."
        return Finding(
            False, f"The model represents the clip poorly: {found}, its autoencoder alone {autoencoder:.1f}.", advice
        )
    return Finding(
        False,
        f"The inversion loses some of the clip: {found}.",
        "More inversion steps, or a truer sentence about the clip.",
    )


def _steadiness(figures: Mapping[str, float]) -> Finding:
    edit, reference = figures["edit"], figures.get("reconstruction", figures["source"])
    ratio = edit / reference if reference else 1.0
    if ratio <= STEADY:
        return Finding(True, f"It is steady: {ratio:.1f} × the warp error of the unedited reconstruction.")
    advice = "A lower guidance scale or a larger keyframe interval; for fast motion a smaller one."
    return Finding(False, f"It flickers: {ratio:.1f} × the warp error of the unedited reconstruction.", advice)


def _detail(figures: Mapping[str, float]) -> Finding:
    edit, reference = figures["edit"], figures.get("reconstruction", 1.0)
    ratio = edit / reference if reference else 1.0
    if ratio >= SHARP:
        return Finding(True, f"It is as sharp as the model allows: {ratio:.0%} of the reconstruction's detail.")
    advice = "A smaller keyframe interval, a lower “propagate edit until”, or more steps."
    return Finding(False, f"It is blurred: {ratio:.0%} of the reconstruction's detail.", advice)


def _change(figures: Mapping[str, float]) -> Finding:
    whole, outside = figures["whole"], figures.get("outside")
    beside = "" if outside is None else f", {outside:.1f} outside of the mask"
    text = f"{whole:.1f} of 255 grey levels on average{beside}"
    if whole >= CHANGED:
        return Finding(True, f"It differs visibly from the source: {text}.")
    advice = "A higher guidance scale, lower Plug-and-Play fractions, or the mode sdedit."
    return Finding(False, f"It hardly differs from the source: {text}.", advice)


def _prompt(figures: Mapping[str, float]) -> Finding:
    edit, source = figures["edit"], figures["source"]
    if edit > source:
        return Finding(True, "CLIP finds that it fits the sentence better than the source does.")
    return Finding(
        False,
        "CLIP finds that it fits the sentence no better than the source does.",
        "A higher guidance scale, or another mode.",
    )


def figures_html(metrics: Mapping[str, Any]) -> str:
    """The findings as a list."""
    items = [_item(finding) for finding in findings(metrics)]
    return str(Markup("<ul class=tf-findings>{}</ul>").format(Markup("").join(items))) if items else ""


def _item(finding: Finding) -> Markup:
    mark, kind = ("✓", "good") if finding.is_good else ("!", "poor")
    advice = Markup(" <em>Try: {}</em>").format(finding.advice) if finding.advice else ""
    return Markup('<li class="tf-{}"><span aria-hidden="true">{}</span><div>{}{}</div></li>').format(
        kind, mark, finding.text, advice
    )
