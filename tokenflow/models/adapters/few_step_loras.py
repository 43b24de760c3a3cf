"""LoRAs that distil a model to few steps (LCM, Lightning, Hyper, TCD): known by their published names."""

import re
from collections.abc import Sequence
from typing import Any

from diffusers import EulerDiscreteScheduler, LCMScheduler, TCDScheduler

from tokenflow.config import LoRA

NAMES = {
    "lcm": r"(?<![a-z])lcm(?![a-z])",
    "lightning": r"lightning[-_/]?\w*\d-?step",
    "hyper": r"hyper-?sd",
    "tcd": r"(?<![a-z])tcd(?![a-z])",
}
"""Patterns of their paths, in lower case."""

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lcm": (LCMScheduler, {}),
    "lightning": (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "hyper": (TCDScheduler, {}),
    "tcd": (TCDScheduler, {}),
}
"""What each was distilled for, as its authors' own examples set it up."""


def few_step_kind(loras: Sequence[LoRA]) -> str | None:
    """The kind of the first LoRA that distils a model to few steps; None if there is none."""
    paths = [lora.path.lower() for lora in loras]
    return next((kind for path in paths for kind, name in NAMES.items() if re.search(name, path)), None)


def set_scheduler(pipeline: Any, kind: str) -> None:
    """Give a pipeline the scheduler that a few-step LoRA was distilled for."""
    scheduler_class, changes = SCHEDULERS[kind]
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **changes)
