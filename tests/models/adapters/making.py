"""LoRAs of random weights for tiny pipelines, in the formats that people have, and the same merged into the weights."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

RANK = 2
TARGETS = {"unet": ["to_q", "to_v", "conv1"], "transformer": ["to_q", "to_v"], "text_encoder": ["q_proj", "out_proj"]}
"""Layers by network; `conv1` makes a LoCon."""

KOHYA = {"unet": "lora_unet", "text_encoder": "lora_te"}


def network_of(pipeline: Any) -> str:
    return "unet" if hasattr(pipeline, "unet") else "transformer"


def lora_weights(pipeline: Any, part: str, seed: int = 0, dora: bool = False) -> dict[str, Tensor]:
    """Weights of a LoRA of a part, as peft names them."""
    torch.manual_seed(seed)
    network = copy.deepcopy(getattr(pipeline, part))
    network.add_adapter(LoraConfig(r=RANK, target_modules=TARGETS[part], init_lora_weights=False, use_dora=dora))
    weights = get_peft_model_state_dict(network, adapter_name="default")
    return {name: weight.contiguous() for name, weight in weights.items()}


def merge(network: Any, weights: dict[str, Tensor], scale: float) -> None:
    """Add scale · B·A to the weights of a network, layer by layer."""
    for name, down in weights.items():
        if name.endswith("lora_A.weight"):
            up = weights[name.replace("lora_A", "lora_B")]
            weight = network.get_submodule(name.removesuffix(".lora_A.weight")).weight
            weight.data += scale * (up.flatten(1) @ down.flatten(1)).view_as(weight)


def save_diffusers(pipeline: Any, folder: Path, parts: dict[str, dict[str, Tensor]]) -> Path:
    layers = {f"{part}_lora_layers": weights for part, weights in parts.items()}
    type(pipeline).save_lora_weights(folder, **layers)
    return folder / "pytorch_lora_weights.safetensors"


def save_kohya(file: Path, parts: dict[str, dict[str, Tensor]], alpha: float) -> Path:
    saved = {}
    for part, weights in parts.items():
        for name, weight in weights.items():
            layer, kind = name.removesuffix(".weight").rsplit(".", 1)
            key = f"{KOHYA[part]}_{('text_model.' * (part == 'text_encoder') + layer).replace('.', '_')}"
            saved[f"{key}.{'lora_down' if kind == 'lora_A' else 'lora_up'}.weight"] = weight
            saved[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(saved, file)
    return file


def save_peft(folder: Path, weights: dict[str, Tensor], alpha: float) -> Path:
    folder.mkdir()
    save_file(
        {f"base_model.model.{name}": weight for name, weight in weights.items()},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": alpha}))
    return folder
