"""The figures of a report in plain words: what is good, and what to change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

GOOD_PSNR = 30
"""dB from which on a reconstruction is good."""

STEADY = 3
"""Warp error of an edit per detail, × its reconstruction's, up to which it is called steady: in the paper (table 1)
TokenFlow is at 1.5 and editing per frame at 5.6, not counting detail."""

SHARP = 0.7
"""Detail of an edit, × its reconstruction's, from which on it is called sharp."""

SEEN = 0.8
"""Fraction of the frames in which the sentence is recognised, from which on it is called followed."""

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
        yield _steadiness(metrics["warp_error_e3"], metrics.get("detail", {}))
    if "detail" in metrics:
        yield _detail(metrics["detail"])
    if "change" in metrics:
        yield _change(metrics["change"])
    if "words" in metrics:
        yield _words(metrics["words"])
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


def _steadiness(figures: Mapping[str, float], detail: Mapping[str, float]) -> Finding:
    """Both are squared differences: where an edit has more detail, the same unsteadiness gives more warp error."""
    ratio = _beside_reconstruction(figures) / max(1.0, _beside_reconstruction(detail))
    text = f"{ratio:.1f} × the warp error of the unedited reconstruction, at equal detail"
    if ratio <= STEADY:
        return Finding(True, f"It is steady: {text}.")
    advice = "A lower guidance scale or a larger keyframe interval; for fast motion a smaller one."
    return Finding(False, f"It flickers: {text}.", advice)


def _detail(figures: Mapping[str, float]) -> Finding:
    ratio = _beside_reconstruction(figures)
    text = f"it has {ratio:.0%} of the reconstruction's detail"
    if ratio >= SHARP:
        return Finding(True, f"It is sharp: {text}.")
    advice = "A smaller keyframe interval, a lower “propagate edit until”, or more steps."
    return Finding(False, f"It is blurred: {text}.", advice)


def _beside_reconstruction(figures: Mapping[str, float]) -> float:
    """A figure of the edit, × that of the reconstruction, or of the source where there is none."""
    reference = figures.get("reconstruction", figures.get("source", 1.0))
    return figures.get("edit", reference) / reference if reference else 1.0


def _change(figures: Mapping[str, float]) -> Finding:
    whole, outside = figures["whole"], figures.get("outside")
    beside = "" if outside is None else f", {outside:.1f} outside of the mask"
    text = f"{whole:.1f} of 255 grey levels on average{beside}"
    if whole >= CHANGED:
        return Finding(True, f"It differs visibly from the source: {text}.")
    advice = "A higher guidance scale, lower Plug-and-Play fractions, or the mode sdedit."
    return Finding(False, f"It hardly differs from the source: {text}.", advice)


def _words(figures: Mapping[str, float]) -> Finding:
    edit = figures["edit"]
    if edit >= SEEN:
        return Finding(True, f"A classifier sees the words of the sentence in {edit:.0%} of the frames.")
    advice = "A higher guidance scale, lower Plug-and-Play fractions, or another mode."
    return Finding(False, f"A classifier sees the words of the sentence in only {edit:.0%} of the frames.", advice)


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
