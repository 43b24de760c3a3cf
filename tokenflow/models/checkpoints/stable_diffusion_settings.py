"""What the settings in a Stable Diffusion's folder tell before any of its weights is downloaded or read."""

import json
from pathlib import Path
from typing import Any

from tokenflow.diffusion.schedules import DiffusionSchedule
from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import CHANNELS, LATENT_CHANNELS
from tokenflow.models.inpainting import is_inpainting

UNET = "UNet2DConditionModel"
REMEDY = "set model.path to another"


def check_stable_diffusion(name: str, folder: Path, prediction_type: str | None) -> None:
    """Refuse a model that takes more than a prompt, or whose noise levels are not Stable Diffusion's.

    Args:
        name: of the model, for errors.
        folder: in diffusers' layout; may lack weights.
        prediction_type: in place of the scheduler's own; None for that.

    Raises:
        ModelError: it is such a model.
    """
    unet = read_settings(folder / "unet" / "config.json")
    class_name = unet.get("_class_name", UNET)
    if class_name != UNET:
        raise ModelError(f"the class of the unet of the model {name!r} is {class_name}; expected {UNET}: {REMEDY}")
    channels, latent = (unet.get(key) or LATENT_CHANNELS for key in ("in_channels", "out_channels"))
    if channels in CHANNELS:
        raise ModelError(
            f"the model {name!r} is {CHANNELS[channels]}; expected a plain text-to-image model: set model.path to "
            "another"
        )
    if channels != latent and not is_inpainting(channels, latent):
        raise ModelError(
            f"the unet of the model {name!r} takes {channels} channels; expected the {latent} of its latents, or "
            f"{2 * latent + 1} of an inpainting model: {REMEDY}"
        )
    scheduler = read_settings(folder / "scheduler" / "scheduler_config.json")
    if scheduler:
        wanted = {} if prediction_type is None else {"prediction_type": prediction_type}
        DiffusionSchedule(scheduler | wanted)


def configured_prediction(folder: Path) -> str:
    """The prediction type of the scheduler in a folder; noise, where its settings leave it out."""
    return read_settings(folder / "scheduler" / "scheduler_config.json").get("prediction_type", "epsilon")


def read_settings(file: Path) -> dict[str, Any]:
    """The settings in a file; empty if it is missing or damaged, which is said when the part is loaded."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
