"""What the settings in a Stable Diffusion's folder tell before any of its weights is downloaded or read."""

import json
from pathlib import Path
from typing import Any

from tokenflow.diffusion.schedules import DiffusionSchedule
from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import CHANNELS


def check_stable_diffusion(name: str, folder: Path, prediction_type: str | None) -> None:
    """Refuse a model that takes more than a prompt, or whose noise levels are not Stable Diffusion's.

    Args:
        name: of the model, for errors.
        folder: in diffusers' layout; may lack weights.
        prediction_type: in place of the scheduler's own; None for that.

    Raises:
        ModelError: it is such a model.
    """
    channels = _read(folder / "unet" / "config.json").get("in_channels")
    if channels in CHANNELS:
        raise ModelError(
            f"the model {name!r} is {CHANNELS[channels]}; expected a plain text-to-image model: set model.path to "
            "another"
        )
    scheduler = _read(folder / "scheduler" / "scheduler_config.json")
    if scheduler:
        wanted = {} if prediction_type is None else {"prediction_type": prediction_type}
        DiffusionSchedule(scheduler | wanted)


def configured_prediction(folder: Path) -> str:
    """The prediction type of the scheduler in a folder; noise, where its settings leave it out."""
    return _read(folder / "scheduler" / "scheduler_config.json").get("prediction_type", "epsilon")


def _read(file: Path) -> dict[str, Any]:
    """The settings in a file; empty if it is missing or damaged, which is said when the part is loaded."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
