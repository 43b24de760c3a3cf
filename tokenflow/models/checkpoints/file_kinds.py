"""What a `.safetensors` file holds, told from the names and shapes of its weights before any of them is read.

Whole checkpoints of Stable Diffusion are named as in the original code: the UNet under `model.diffusion_model.`, the
autoencoder under `first_stage_model.`, text encoders under `cond_stage_model.`, or `conditioner.embedders.` in SDXL.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import infer_diffusers_model_type
from safetensors import SafetensorError, safe_open

from tokenflow.errors import ModelError, ModelNotFoundError, looked_in
from tokenflow.models.checkpoints.reasons import first_line

SUFFIX = ".safetensors"

UNET = "model.diffusion_model."
FIRST_CONVOLUTION = f"{UNET}input_blocks.0.0.weight"
VAE = ("first_stage_model.", "vae.")
TEXT = ("cond_stage_model.", "conditioner.embedders.")
SECOND_TEXT = "conditioner.embedders.1."

LORA = re.compile(r"\blora_|\.lora\b|\.lora_|\.(hada|lokr|oft)_|dora_scale")
ADAPTERS = {
    "an IP-Adapter, which only adds to a model": ("image_proj.", "ip_adapter."),
    "a T2I-Adapter, which only adds to a model": ("adapter.body.", "adapter.conv_in.", "body.0."),
    "a text encoder alone": ("text_model.", "embeddings.", "transformer.text_model.", "shared.", "encoder.block."),
}
AS_LORA = "set model.loras to [{path: this file}], and model.path to the model"
AS_WORD = "set model.textual_inversions to [{path: this file}], and model.path to the model"
CONTROLNET = ("control_model.", "controlnet_cond_embedding.", "input_hint_block.", "lora_controlnet", "zero_convs.")
BARE_VAE = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "loss.", "model_ema.")
BARE_UNET = ("input_blocks.", "down_blocks.", "time_embed.", "time_embedding.")

LATENT_CHANNELS = 4
"""Of Stable Diffusion."""

CHANNELS = {
    8: "an InstructPix2Pix model, which needs the image to edit",
    7: "an upscaler, which needs the image to enlarge",
    5: "a depth model, which needs a depth map",
}
"""What a UNet is that takes so many channels; an inpainting one takes 9 (models/inpainting.py)."""

ALONE = "a UNet alone, without text encoder and VAE"

UNKNOWN = "v1"
"""What diffusers calls a file whose weights it does not know."""


@dataclass(frozen=True)
class Weight:
    """Shape and precision of a weight, as safetensors writes it, such as `F16`."""

    shape: tuple[int, ...]
    dtype: str


Header = Mapping[str, Weight]


def is_file_name(path: str) -> bool:
    """Whether a path is that of a `.safetensors` file, in any case."""
    return path.lower().endswith(SUFFIX)


def read_header(path: str, setting: str) -> Header:
    """Names, shapes and precisions of the weights in a file.

    Args:
        path: of the file.
        setting: names it, for errors.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: it is damaged, or no safetensors file.
    """
    if not Path(path).is_file():
        raise ModelNotFoundError(f"there is no model file {path!r}{looked_in(path)}; set {setting}")
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - a file has no other way
            return {name: Weight(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the model file {path!r} cannot be loaded ({first_line(error)}); expected a whole .safetensors file: "
            f"download it again, or set {setting} to another"
        ) from error


def check_checkpoint(path: str, header: Header, has_vae: bool) -> None:
    """Refuse everything but a text-to-image checkpoint of Stable Diffusion with all its parts, by what it is.

    Args:
        path: of the file, for the error.
        header: of the file.
        has_vae: whether the autoencoder comes from elsewhere.

    Raises:
        ModelError: the file is something else.
    """
    kind = _other_kind(header) or _lacking(header, has_vae)
    if kind is not None:
        raise ModelError(
            f"the model file {path!r} is {kind}; expected a whole Stable Diffusion 1.x, 2.x or XL checkpoint"
        )


def is_xl(header: Header) -> bool:
    """Whether a checkpoint is one of SDXL, which has two text encoders."""
    return _any_starts(header, SECOND_TEXT)


def is_version_2(header: Header) -> bool:
    """Whether a checkpoint is one of Stable Diffusion 2.x, whose text encoder is OpenCLIP's."""
    return _any_starts(header, "cond_stage_model.model.")


def unet_channels(header: Header) -> int:
    """How many channels the UNet of a checkpoint takes; 0 if it has none."""
    first = header.get(FIRST_CONVOLUTION)
    return 0 if first is None else first.shape[1]


def is_vae(header: Header) -> bool:
    """Whether a file holds an autoencoder and nothing else."""
    return all(name.startswith((*VAE, *BARE_VAE)) for name in header)


def is_controlnet(header: Header) -> bool:
    """Whether a file holds a ControlNet."""
    return _any_starts(header, *CONTROLNET)


def _other_kind(header: Header) -> str | None:
    """What a file is that has not the layout of Stable Diffusion; None for one that has."""
    if _any_starts(header, f"{UNET}input_blocks."):
        return None
    if any(LORA.search(name) for name in header):
        return "a Control-LoRA" if is_controlnet(header) else f"a LoRA, which only adds to a model: {AS_LORA}"
    if 0 < len(header) <= 3 and all(len(weight.shape) <= 2 for weight in header.values()):
        return f"a textual inversion, which only adds a word to a model: {AS_WORD}"
    if is_controlnet(header):
        return "a ControlNet: set edit.controlnet.path to it, and model.path to the model"
    for kind, names in ADAPTERS.items():
        if _any_starts(header, *names):
            return kind
    if header and is_vae(header):
        return "a VAE alone: set model.vae to it, and model.path to the model"
    if _any_starts(header, *BARE_UNET):
        return ALONE
    family = _family(header)
    return f"a checkpoint of {family}, which is not supported" if family else "of an unknown kind"


def _lacking(header: Header, has_vae: bool) -> str | None:
    """What a file with that layout is other than a text-to-image model with all its parts; None for such a model."""
    if not _any_starts(header, *TEXT, *VAE):
        return ALONE
    if _any_starts(header, "conditioner.embedders.0.model."):
        return "the SDXL refiner, which only finishes images of the base model"
    if "edm_mean" in header:
        return "a checkpoint of Playground 2.5, whose noise levels (EDM) are not supported"
    channels = unet_channels(header)
    if channels in CHANNELS:
        return CHANNELS[channels]
    if not _any_starts(header, *TEXT):
        return "without a text encoder"
    if not has_vae and not _any_starts(header, *VAE):
        return "without a VAE: set model.vae to one"
    return None


def _family(header: Header) -> str | None:
    """The family of a file as diffusers calls it; None if diffusers does not know it."""
    shapes: dict[str, Any] = {name: torch.empty(weight.shape, device="meta") for name, weight in header.items()}
    try:
        family = infer_diffusers_model_type(shapes)
    except (KeyError, IndexError, UnboundLocalError):  # it asks for weights that such files usually have
        return None
    return None if family == UNKNOWN else family


def _any_starts(names: Iterable[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in names)
