"""LoRAs (Hu et al., ICLR 2022): loading them into a pipeline, and counting the layers that they change."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from tokenflow.config import LoRA
from tokenflow.errors import ModelError
from tokenflow.events import notice
from tokenflow.models.adapters.files import find_file
from tokenflow.models.checkpoints.file_kinds import Header, is_controlnet, read_header
from tokenflow.models.checkpoints.reasons import UNUSABLE, first_line
from tokenflow.models.families import Family

SETTING = "model.loras"

LAYER = re.compile(r"[._](?:lora_A|lora_B|lora_up|lora_down|lora\.up|lora\.down|lora_linear_layer)\b.*")
"""What follows a layer's name in the name of one of its LoRA weights."""

OTHER_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "dora_scale": "DoRA in kohya's format"}
"""Weights of adapters that diffusers' loaders refuse, or would leave out."""

PEFT_PREFIX = "base_model.model."
PEFT_CONFIG = "adapter_config.json"


def load_loras(pipeline: Any, family: Family, loras: Sequence[LoRA]) -> None:
    """Load LoRAs into the networks of a pipeline, each at its scale.

    Raises:
        ModelNotFoundError: a file is missing, or the Hub does not deliver it.
        ModelError: a file is damaged, holds something else, or changes no layer of the model.
    """
    names = [f"lora_{index}" for index in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _load(pipeline, family, lora, name)
    pipeline.set_adapters(names, [lora.scale for lora in loras])
    for part in networks(pipeline):
        dtype = next(weight.dtype for weight in part.parameters() if weight.is_floating_point())
        for layer in lora_layers(part):
            layer.to(dtype)


def check_loras(loras: Sequence[LoRA]) -> None:
    """Refuse files other than LoRAs before the model is loaded; those on the Hub are downloaded.

    Raises:
        ModelNotFoundError: a file is missing, or the Hub does not deliver it.
        ModelError: a file is damaged, or holds something else.
    """
    for lora in loras:
        _layer_count(lora.path, read_header(str(find_file(lora.path, SETTING)), SETTING))


def networks(pipeline: Any) -> list[nn.Module]:
    """The networks of a pipeline that may have LoRA layers."""
    return [part for part in pipeline.components.values() if isinstance(part, nn.Module)]


def lora_layers(network: nn.Module, name: str | None = None) -> list[BaseTunerLayer]:
    """The layers of a network that have a LoRA, of that name if one is given."""
    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    return [layer for layer in layers if name is None or name in layer.lora_A]


def _load(pipeline: Any, family: Family, lora: LoRA, name: str) -> None:
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"{type(pipeline).__name__} takes no LoRAs; leave {SETTING} empty")
    file = find_file(lora.path, SETTING)
    header = read_header(str(file), SETTING)
    total = _layer_count(lora.path, header)
    weights = _of_peft(file, family) if all(key.startswith(PEFT_PREFIX) for key in header) else None
    try:
        if weights is None:
            pipeline.load_lora_weights(
                file.parent, weight_name=file.name, adapter_name=name, use_safetensors=True, local_files_only=True
            )
        else:
            pipeline.load_lora_weights(weights, adapter_name=name)
    except UNUSABLE as error:
        raise ModelError(
            f"the LoRA {lora.path!r} does not fit the model ({first_line(error)[:200]}); set {SETTING} to one that was "
            "trained for it"
        ) from error
    matched = sum(len(lora_layers(part, name)) for part in networks(pipeline))
    if not matched:
        raise ModelError(
            f"the LoRA {lora.path!r} changes none of the model's layers, out of {total} that it has weights for; set "
            f"{SETTING} to one that was trained for this model"
        )
    if matched < total:
        notice(
            f"the LoRA {lora.path!r} has weights for {total} layers, of which the model has {matched}; the others are "
            "left out"
        )


def _layer_count(path: str, header: Header) -> int:
    """How many layers a file has LoRA weights for.

    Raises:
        ModelError: it holds something else.
    """
    for part, kind in OTHER_KINDS.items():
        if any(part in key for key in header):
            raise ModelError(
                f"{path!r} is a {kind}; expected a LoRA or LoCon, or a DoRA in peft's format: set {SETTING}"
            )
    layers = {LAYER.sub("", key) for key in header if LAYER.search(key)}
    if not layers or is_controlnet(header):
        raise ModelError(f"{path!r} holds something other than a LoRA; set {SETTING} to one")
    return len(layers)


def _of_peft(file: Path, family: Family) -> dict[str, Tensor]:
    """The weights of a file that peft wrote, as diffusers names them, with the scale of its configuration in them."""
    config_file = file.parent / PEFT_CONFIG
    config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise ModelError(f"the LoRA {str(file)!r} has ranks by layer in {PEFT_CONFIG}; convert it to diffusers' format")
    rank = config.get("r", 1)
    scale = config.get("lora_alpha", rank) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    network = family.networks[0]
    weights = {}
    for key, weight in load_file(file).items():
        weights[f"{network}.{key.removeprefix(PEFT_PREFIX)}"] = weight * scale if ".lora_B." in key else weight
    return weights
