"""What a network in one file predicts, and to which noise it was trained: what the file itself says of it."""

from math import prod
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from tokenflow.errors import ModelError
from tokenflow.events import notice
from tokenflow.models.checkpoints.file_kinds import LATENT_CHANNELS, Header, is_version_2, unet_channels
from tokenflow.models.inpainting import is_inpainting

VELOCITY = "v_pred"
"""An empty weight of this name marks networks that predict velocity (v-prediction)."""

ZERO_TERMINAL = "ztsnr"
"""An empty weight of this name marks networks that were trained up to pure noise (zero terminal SNR)."""

GLOBAL_STEP = "global_step"
NOISE_STEPS = 875_000
"""Training steps of Stable Diffusion 2's base, whose files say so; it predicts noise, the larger models velocity."""

REMEDY = "set model.prediction_type to epsilon or v_prediction, whichever the file's page says"


def says(path: str, header: Header) -> str | None:
    """The prediction type that a file, or the original configuration beside it, says it has; None if neither does.

    Stable Diffusion 2.x exists in both kinds, told apart by the training steps, as diffusers does it. Its inpainting
    model descends from the base, which predicts noise.
    """
    if _says_velocity(path, header):
        return "v_prediction"
    if is_version_2(header) and is_inpainting(unet_channels(header), LATENT_CHANNELS):
        return "epsilon"
    if is_version_2(header) and GLOBAL_STEP in header and prod(header[GLOBAL_STEP].shape) == 1:
        with safe_open(path, "pt") as file:
            return "epsilon" if int(file.get_tensor(GLOBAL_STEP)) == NOISE_STEPS else "v_prediction"
    return None


def _says_velocity(path: str, header: Header) -> bool:
    """Whether the file is marked so, or `model.params.parameterization` is so in the `.yaml` beside it."""
    if VELOCITY in header:
        return True
    try:
        original = yaml.safe_load(Path(path).with_suffix(".yaml").read_text(encoding="utf-8"))
        return bool(original["model"]["params"]["parameterization"] == "v")
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return False


def scheduler_changes(path: str, header: Header, configured: str, wanted: str | None) -> dict[str, Any]:
    """What to change in the scheduler's configuration, which is that of another model, for the network in a file.

    Args:
        path: of the file.
        header: of the file.
        configured: `prediction_type` of the configuration.
        wanted: that of the settings, which decides.

    Raises:
        ModelError: configuration and training steps contradict each other, and nothing is wanted.
    """
    marks = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if ZERO_TERMINAL in header else {}
    if wanted is not None:
        return marks | {"prediction_type": wanted}
    said = says(path, header)
    if _says_velocity(path, header):
        return marks | {"prediction_type": said}
    if said is not None and said != configured:
        article = "an" if said == "epsilon" else "a"
        raise ModelError(
            f"the model file {path!r} seems to be {article} {said} model, but model.base predicts "
            f"{configured}; {REMEDY}"
        )
    if said is None and is_version_2(header) and configured == "epsilon":
        notice(
            f"the model file {path!r} does not say what it predicts; epsilon is assumed. If results are noise, {REMEDY}"
        )
    return marks
