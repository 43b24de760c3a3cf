"""LoRAs that distil a model to few steps (LCM, Lightning, Hyper-SD, TCD and others): known by their published names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenflow.config import LoRA
from tokenflow.diffusion.few_step import FewStep
from tokenflow.events import notice

KINDS: dict[str, tuple[str, FewStep]] = {
    "LCM": (r"(?<![a-z])lcm(?![a-z])|lcm-?lora", FewStep(steps=4, renoises=True)),
    "Lightning": (r"lightning[-_/\w]*\d[-_]?step", FewStep(steps=4, renoises=False, max_scale=1)),
    "Hyper-SD": (r"hyper[-_]?(?:sd|flux)(?:xl|\d+)?(?![a-z])", FewStep(steps=4, renoises=False, max_scale=1)),
    "TCD": (r"(?<![a-z])tcd(?![a-z])", FewStep(steps=4, renoises=False)),
    "DMD2": (r"(?<![a-z])dmd2(?![a-z])", FewStep(steps=4, renoises=True, max_scale=1)),
    "PCM": (r"(?<![a-z])pcm[-_]", FewStep(steps=4, renoises=False)),
    "Turbo": (r"(?:sd|xl)[-_]turbo", FewStep(steps=4, renoises=False, max_scale=1)),
}
"""Patterns of their names, in lower case, and how they sample unless the name says more.

Guidance and the noise of each step are as their authors' examples set them. Hyper-SD and TCD sample without the noise
that TCDScheduler can add (its eta is 0 here).
"""

STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_]?steps?(?![a-z])")
GUIDED = re.compile(r"(?<![a-z])(?:normal)?cfg(?![a-z])")
"""In the names of those that keep guidance by branches."""

GUIDED_SCALE = 8.0
"""Up to which they are guided, as Hyper-SD's authors recommend."""


@dataclass(frozen=True)
class FewStepLoRA:
    """A LoRA that distils a model to few steps.

    Attributes:
        path: as it is set.
        kind: one of `KINDS`.
        sampling: how a model samples with it.
    """

    path: str
    kind: str
    sampling: FewStep


def find_few_step_lora(loras: Sequence[LoRA]) -> FewStepLoRA | None:
    """The first LoRA at work that distils a model to few steps, by the id or file on the Hub, or the name of the file
    or folder here."""
    for lora in loras:
        name = (Path(lora.path).name if Path(lora.path).exists() else lora.path).lower()
        for kind, (pattern, sampling) in KINDS.items():
            if lora.scale != 0 and re.search(pattern, name):
                steps = STEPS.search(name)
                return FewStepLoRA(
                    lora.path,
                    kind,
                    replace(
                        sampling,
                        steps=int(steps[1]) if steps else sampling.steps,
                        max_scale=GUIDED_SCALE if GUIDED.search(name) else sampling.max_scale,
                    ),
                )
    return None


def few_step_sampling(pipeline: Any, lora: FewStepLoRA | None) -> FewStep | None:
    """How a pipeline samples with such a LoRA; None for as without it, as in families other than Stable Diffusion."""
    return lora.sampling if lora is not None and hasattr(pipeline, "unet") else None


def notice_few_step_lora(pipeline: Any, lora: FewStepLoRA) -> None:
    """A notice of what a LoRA's name was taken for, since nothing else tells."""
    named, steps = f"the LoRA {lora.path!r} is one of {lora.kind} by its name", lora.sampling.steps
    if few_step_sampling(pipeline, lora) is None:
        notice(f"{named}, but this model's family samples as without it; set edit.steps to {steps}")
    else:
        notice(f"{named}, so the model samples in {steps} steps; set model.few_step to false if it is another")
