"""LoRAs that distil a model to few steps (LCM, Lightning, Hyper): known by their names, each with its scheduler."""

import re
from collections.abc import Sequence
from typing import Any

from diffusers import EulerDiscreteScheduler, LCMScheduler, TCDScheduler

from tokenflow.config import LoRA

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lcm": (LCMScheduler, {}),
    "lightning": (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "hyper": (TCDScheduler, {}),
    "tcd": (TCDScheduler, {}),
}
"""By a word of the LoRA's path: the scheduler that it was distilled for, as its authors' own examples set it up."""


def few_step_kind(loras: Sequence[LoRA]) -> str | None:
    """The kind of the first LoRA that distils a model to few steps; None if there is none."""
    words = [word for lora in loras for word in re.findall(r"[a-z]+", lora.path.lower())]
    return next((word for word in words if word in KINDS), None)


def set_scheduler(pipeline: Any, kind: str) -> None:
    """Give a pipeline the scheduler that a few-step LoRA was distilled for."""
    scheduler_class, changes = KINDS[kind]
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **changes)
