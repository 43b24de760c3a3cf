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
PARTS = {
    "an upscaler of images (ESRGAN)": r"\.rdb\d\.|^model\.\d+\.sub\.",
    "a motion module of AnimateDiff, not a whole model": r"\.motion_modules\.",
    "an IP-Adapter, not a whole model": r"^(image_proj|ip_adapter)\.",
    "a T2I-Adapter, whose configuration is not in the file: set edit.controlnet.path to its folder or Hub id": (
        r"^(adapter\.(body|conv_in)|body\.0)\."
    ),
    "an image encoder alone": r"^vision_model\.",
    "a text encoder alone": (
        r"^((transformer\.)?text_model|embeddings|token_embedding|transformer\.resblocks|shared|encoder\.block)\."
    ),
}
"""What files without the layout of Stable Diffusion hold, by the names of weights."""

RELATIVES = {
    "the SDXL refiner, which only finishes images of the base model": r"^conditioner\.embedders\.0\.model\.",
    "a checkpoint of Playground 2.5, whose noise levels (EDM) are not supported": r"^edm_mean$",
    "a checkpoint of CosXL, whose noise levels (EDM) are not supported": r"^edm_vpred\.",
    "a Stable Video Diffusion, which makes a video of an image": r"\.time_(stack|mixer)\.",
    "an unCLIP model, which needs an image in place of a prompt": r"^noise_augmentor\.",
    "a Zero123, which needs an image and a viewpoint": r"^cc_projection\.",
}
"""What files with that layout are other than Stable Diffusion, likewise."""

CONTROLNET = (
    "control_model.",
    "controlnet_cond_embedding.",
    "input_hint_block.",
    "lora_controlnet",
    "zero_convs.",
    "control_add_embedding.",
)
UNION = "task_embedding"
BARE_VAE = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "loss.", "model_ema.")
TINY_VAE = "encoder.layers."
BARE_UNET = ("input_blocks.", "down_blocks.", "time_embed.", "time_embedding.", "diffusion_model.input_blocks.")

NUMBER = re.compile(r"-\d{5}-of-\d{5}\.")
"""In the name of a shard."""

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
    """Whether a path is that of a `.safetensors` file, in any case, and not of a folder called so."""
    return path.lower().endswith(SUFFIX) and not Path(path).is_dir()


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
        raise ModelNotFoundError(f"the model file {path!r} was not found{looked_in(path)}; set {setting}")
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
    kind = other_kind(path, header) or _lacking(header, has_vae)
    if kind is not None:
        raise ModelError(
            f"the model file {path!r} is {kind}; expected a whole Stable Diffusion 1.x, 2.x or XL checkpoint"
        )


def refuse_shard(path: str) -> None:
    """Refuse one of several files that hold a network together, by its name.

    Raises:
        ModelError: it is one.
    """
    if NUMBER.search(path):
        raise ModelError(
            f"the model file {path!r} is one shard of several; set model.path to the folder of the whole model"
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


def is_tiny_vae(header: Header) -> bool:
    """Whether an autoencoder is one of AutoencoderTiny."""
    return _any_starts(header, TINY_VAE)


def is_union(names: Iterable[str]) -> bool:
    """Whether weights of a ControlNet are those of a union of several."""
    return UNION in names


def is_controlnet(header: Header) -> bool:
    """Whether a file holds a ControlNet."""
    return _any_starts(header, *CONTROLNET)


def other_kind(path: str, header: Header) -> str | None:
    """What a file is that does not have the layout of Stable Diffusion, and what to do; None for one that has it."""
    if _any_starts(header, f"{UNET}input_blocks."):
        return None
    if any(LORA.search(name) for name in header):
        remedy = f"set model.loras to [{{path: {path}}}], and model.path to the model"
        return "a Control-LoRA" if is_controlnet(header) else f"a LoRA, not a whole model: {remedy}"
    if 0 < len(header) <= 3 and all(len(weight.shape) <= 2 for weight in header.values()):
        remedy = f"set model.textual_inversions to [{{path: {path}}}], and model.path to the model"
        return f"a textual inversion, which only adds a word to a model: {remedy}"
    if is_controlnet(header):
        return "a ControlNet: set edit.controlnet.path to it, and model.path to the model"
    part = _first_match(PARTS, header)
    if part is not None:
        return part
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
    relative = _first_match(RELATIVES, header)
    if relative is not None:
        return relative
    channels = unet_channels(header)
    if channels in CHANNELS:
        return CHANNELS[channels]
    if not _any_starts(header, *TEXT):
        return "without a text encoder"
    if not has_vae and not _any_starts(header, *VAE):
        return "without a VAE: set model.vae to one"
    return None


def _first_match(kinds: Mapping[str, str], header: Header) -> str | None:
    """The first of some kinds that has a weight whose name matches."""
    return next(
        (kind for kind, name in kinds.items() if any(re.search(name, each, re.IGNORECASE) for each in header)), None
    )


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
