"""What the figures of an edit say in words: whether it failed, how, and what to change.

Thresholds were chosen on edits of drawn clips that were labelled by the perfect edit, and tested on others
(`python -m benchmarks.verdict`, docs/metrics.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Name = Literal["good", "hardly edited", "flattened", "prompt not followed", "parts lost", "clip not shown"]

MIN_AUTOENCODER_PSNR = 26.0
"""dB, below which a model cannot show a clip: the default of `inversion.warn_below_psnr`."""

MIN_DETAIL = 0.4
"""Of the reconstruction's detail."""

MIN_CHANGE = 30.0
"""Grey levels of 255, of the part of the image that changed most."""

MIN_WORDS = 0.5
"""Share of frames in which the classifier sees all words of the prompt."""

MIN_OUTLINES = 0.7
"""Share of the source's outlines, where the prompt leaves the object what it is."""

BOLDER = {
    "pnp": "raise edit.guidance_scale, lower edit.pnp.features_until and attention_until, or try edit.mode=sdedit",
    "sdedit": "raise edit.guidance_scale or edit.sdedit.strength, or try edit.mode=pnp",
    "controlnet": "raise edit.guidance_scale, lower edit.controlnet.scale, or try edit.mode=sdedit",
    "flowedit": "raise edit.guidance_scale or edit.flowedit.strength, or try edit.mode=sdedit",
    "keyframes": "give more edited frames, and check edit.prompt, which has to describe them",
    "instruct": "say in edit.prompt more plainly what to change, or raise edit.guidance_scale",
}
CLOSER = {
    "pnp": "raise edit.pnp.features_until and attention_until, or lower edit.guidance_scale or edit.variation",
    "sdedit": "lower edit.sdedit.strength, or try edit.mode=pnp, which keeps shapes",
    "controlnet": "raise edit.controlnet.scale, or try edit.mode=pnp, which keeps shapes",
    "flowedit": "lower edit.flowedit.strength, or try edit.mode=pnp, which keeps shapes",
    "keyframes": "give more edited frames",
    "instruct": "say in edit.prompt what is to stay, lower edit.guidance_scale or edit.instruct.strength",
}
"""What to change for a bolder edit in each mode, and for one that is closer to its source."""


@dataclass(frozen=True)
class Verdict:
    """What became of an edit.

    Attributes:
        name: in two or three words.
        finding: what was found, with the figures it rests on.
        remedy: what to change; empty if there is nothing to change.
    """

    name: Name
    finding: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.finding}" + (f"; {self.remedy}" if self.remedy else "")


def judge(figures: Mapping[str, Mapping[str, Any]], mode: str, *, keeps_object: bool = False) -> Verdict:
    """The verdict on an edit: the first of the failures that its figures show, else good.

    Args:
        figures: `metrics` of report.json. What is missing there is not judged.
        mode: of the edit.
        keeps_object: whether the prompt leaves the object what it is.
    """
    not_shown = None if mode == "keyframes" else _clip_not_shown(figures)  # given frames need no autoencoder
    for found in (not_shown, _flattened(figures, mode), _not_followed(figures, mode)):
        if found is not None:
            return found
    outlines = figures.get("outlines", {}).get("edit")
    if keeps_object and outlines is not None and outlines < MIN_OUTLINES:
        return Verdict("parts lost", f"{outlines:.0%} of the source's outlines are left", CLOSER[mode])
    return _good(figures)


def _clip_not_shown(figures: Mapping[str, Mapping[str, Any]]) -> Verdict | None:
    psnr = figures.get("reconstruction", {}).get("autoencoder_psnr")
    if psnr is None or psnr >= MIN_AUTOENCODER_PSNR:
        return None
    finding = f"the model cannot show this clip; its autoencoder alone reaches {psnr:.1f} dB"
    return Verdict("clip not shown", finding, "set a larger clip.size, or use another model")


def _flattened(figures: Mapping[str, Mapping[str, Any]], mode: str) -> Verdict | None:
    detail = figures.get("detail", {})
    if "edit" not in detail:
        return None
    share = detail["edit"] / detail.get("reconstruction", 1.0)
    if share >= MIN_DETAIL:
        return None
    finding = f"{share:.0%} of the detail of the {'reconstruction' if 'reconstruction' in detail else 'source'} is left"
    return Verdict("flattened", finding, f"take more edit.steps; {CLOSER[mode]}")


def _not_followed(figures: Mapping[str, Mapping[str, Any]], mode: str) -> Verdict | None:
    """Hardly edited, or edited into something else."""
    change = figures["change"]["most"]
    if change < MIN_CHANGE:
        finding = f"even the most changed part of the image differs by only {change:.0f} of 255 grey levels"
        return Verdict("hardly edited", finding, BOLDER[mode])
    words, clip = figures.get("words", {}), figures.get("clip_text", {})
    if words and words["edit"] < MIN_WORDS:
        finding = f"the classifier sees the words of the prompt in {words['edit']:.0%} of the frames"
        return Verdict("prompt not followed", finding, f"use words that the model knows; {BOLDER[mode]}")
    if not words and clip and clip["edit"] <= clip["source"]:
        finding = (
            f"CLIP finds the edit no closer to the prompt ({clip['edit']:.3f}) than the source ({clip['source']:.3f})"
        )
        return Verdict("prompt not followed", finding, BOLDER[mode])
    return None


def _good(figures: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Nothing failed, as far as it was measured."""
    if "words" in figures:
        return Verdict("good", f"the classifier sees the prompt in {figures['words']['edit']:.0%} of the frames")
    if "clip_text" in figures:
        return Verdict("good", "CLIP finds the edit closer to the prompt than the source")
    return Verdict(
        "good",
        "as far as was measured, which leaves out whether the prompt was followed",
        "set metrics.clip to measure it",
    )
