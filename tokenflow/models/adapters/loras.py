"""LoRAs (Hu et al., ICLR 2022): loading them into a pipeline, and counting the layers that they change."""

import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from tokenflow.config import LoRA
from tokenflow.errors import ModelError
from tokenflow.events import notice
from tokenflow.models.adapters.files import PEFT_CONFIG, find_file, find_peft_config
from tokenflow.models.checkpoints.file_kinds import Header, is_controlnet, read_header
from tokenflow.models.checkpoints.reasons import UNUSABLE, first_line
from tokenflow.models.families import Family

SETTING = "model.loras"

LAYER = re.compile(r"[._](?:lora_A|lora_B|lora_up|lora_down|lora\.up|lora\.down|lora_linear_layer)\b.*")
"""What follows a layer's name in the name of one of its LoRA weights."""

OTHER_KINDS = {
    r"hada_": "LoHa",
    r"lokr_": "LoKr",
    r"oft_": "OFT",
    r"dora_scale": "DoRA in kohya's format",
    r"lora_mid": "LoCon with a Tucker decomposition",
    r"\.diff(_b)?$": "LoRA with whole weights (.diff) among its own",
    r"^bundle_emb": "LoRA with words for the text encoder embedded in it (bundle_emb)",
}
"""Weights of adapters that diffusers' loaders refuse, or would leave out: patterns of their names."""

MISMATCH = re.compile(r"size mismatch for (\S+)\.lora_A\S*: .*?Size\(\[\d+, (\d+).*?Size\(\[\d+, (\d+)")
"""In torch's error: a layer, and how many features it takes in the file and in the model."""

LOADERS_LOG = "diffusers.loaders.peft"

PEFT_PREFIX = "base_model.model."


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
            for kind in layer.adapter_layer_names:
                getattr(layer, kind).to(dtype)


def check_loras(loras: Sequence[LoRA]) -> None:
    """Refuse files of other kinds, before the model is loaded; those on the Hub are downloaded.

    Raises:
        ModelNotFoundError: a file is missing, or the Hub does not deliver it.
        ModelError: a file is damaged, or holds something else.
    """
    for lora in loras:
        _layer_count(lora.path, read_header(str(find_file(lora.path, SETTING)), SETTING))


def networks(pipeline: Any) -> list[nn.Module]:
    """The networks of a pipeline that may have LoRA layers."""
    return [part for part in pipeline.components.values() if isinstance(part, nn.Module)]


def acting_layers(pipeline: Any) -> list[BaseTunerLayer]:
    """The layers of a pipeline whose LoRAs are on."""
    layers = [layer for network in networks(pipeline) for layer in lora_layers(network)]
    return [layer for layer in layers if not layer.disable_adapters and layer.active_adapters]


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
    _check_prefix(lora.path, header, getattr(pipeline, family.networks[0]), family.networks[0])
    weights = _of_peft(file, lora.path, family) if all(key.startswith(PEFT_PREFIX) for key in header) else None
    try:
        # diffusers logs every line of torch's error, which is raised as well.
        with _without_log(LOADERS_LOG):
            _load_weights(pipeline, file, weights, name)
    except UNUSABLE as error:
        raise ModelError(
            f"the LoRA {lora.path!r} {_misfit(error)}; set {SETTING} to one that was trained for it"
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


def _load_weights(pipeline: Any, file: Path, weights: dict[str, Tensor] | None, name: str) -> None:
    """Load a file, or the weights that were made of it, under a name."""
    if weights is None:
        pipeline.load_lora_weights(
            file.parent, weight_name=file.name, adapter_name=name, use_safetensors=True, local_files_only=True
        )
    else:
        pipeline.load_lora_weights(weights, adapter_name=name)


@contextmanager
def _without_log(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _misfit(error: BaseException) -> str:
    """Why weights do not fit: of many that have another shape, the first."""
    found = MISMATCH.search(str(error))
    if found is None:
        return f"does not fit the model ({first_line(error)[:200]})"
    return f"was trained for another model: its {found[1]} takes {found[2]} features, the model's {found[3]}"


def _check_prefix(path: str, header: Header, network: nn.Module, part: str) -> None:
    """Refuse names that begin inside of the network, which diffusers' loaders leave out.

    Raises:
        ModelError: the file has such names.
    """
    inside = {name for name, _ in network.named_children()}
    bare = next((key for key in header if key.partition(".")[0] in inside), None)
    if bare is not None:
        raise ModelError(
            f"the LoRA {path!r} names the layer {LAYER.sub('', bare)!r} without its network; expected "
            f"'{part}.{LAYER.sub('', bare)}': put '{part}.' before the names, or convert it to diffusers' format"
        )


def _layer_count(path: str, header: Header) -> int:
    """How many layers a file has LoRA weights for.

    Raises:
        ModelError: it holds something else.
    """
    for pattern, kind in OTHER_KINDS.items():
        if any(re.search(pattern, key) for key in header):
            raise ModelError(
                f"{path!r} is a {kind}; expected a LoRA or LoCon alone, or a DoRA in peft's format: set {SETTING}"
            )
    layers = {LAYER.sub("", key) for key in header if LAYER.search(key)}
    if not layers or is_controlnet(header):
        raise ModelError(f"{path!r} holds something other than a LoRA; set {SETTING} to one")
    return len(layers)


def _of_peft(file: Path, path: str, family: Family) -> dict[str, Tensor]:
    """The weights of a file that peft wrote, as diffusers names them, with the scale of its configuration in them."""
    config = find_peft_config(path, file, SETTING)
    if config is None:
        notice(
            f"the LoRA {path!r} was written by peft and has no {PEFT_CONFIG} beside it, so its scale is unknown and "
            "taken as 1; add that file"
        )
    scale = 1.0 if config is None else _peft_scale(config)
    network = family.networks[0]
    weights = {}
    for key, weight in load_file(file).items():
        weights[f"{network}.{key.removeprefix(PEFT_PREFIX)}"] = weight * scale if ".lora_B." in key else weight
    return weights


def _peft_scale(file: Path) -> float:
    """What peft multiplies a LoRA with: alpha / r.

    Raises:
        ModelError: the configuration is damaged, or has it layer by layer.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        by_layer = config.get("rank_pattern") or config.get("alpha_pattern")
        rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
        scale = float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    except (OSError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ModelError(
            f"{str(file)!r} is damaged ({first_line(error)}); expected peft's {PEFT_CONFIG} with r and lora_alpha: "
            "download it again"
        ) from error
    if by_layer:
        raise ModelError(f"{str(file)!r} has ranks or alphas by layer; convert the LoRA to diffusers' format")
    return scale
