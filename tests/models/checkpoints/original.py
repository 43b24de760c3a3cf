"""Weights named as in the original code of Stable Diffusion, from networks of diffusers: what single files hold."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Weights = dict[str, Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
OPEN_CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def save_original(file: Path, pipeline: Any, **changes: Tensor) -> Path:
    """A pipeline as one file, with some weights added."""
    save_file(contiguous({**original_weights(pipeline), **changes}), file)
    return file


def original_weights(pipeline: Any) -> Weights:
    """A pipeline's weights: of SD 1.x with one text encoder, of SDXL with two, the second as OpenCLIP names it."""
    weights = prefixed("model.diffusion_model.", unet_weights(pipeline.unet))
    weights |= prefixed("first_stage_model.", vae_weights(pipeline.vae))
    if getattr(pipeline, "text_encoder_2", None) is None:
        return weights | prefixed("cond_stage_model.transformer.text_model.", text_weights(pipeline.text_encoder))
    weights |= prefixed("conditioner.embedders.0.transformer.text_model.", text_weights(pipeline.text_encoder))
    return weights | prefixed("conditioner.embedders.1.model.", open_clip_weights(pipeline.text_encoder_2))


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: weight for name, weight in weights.items()}


def contiguous(weights: Mapping[str, Tensor]) -> Weights:
    return {name: weight.detach().contiguous().clone() for name, weight in weights.items()}


def unet_weights(network: Any) -> Weights:
    """Of a UNet, or of a ControlNet, which is its encoder with a convolution behind each block."""
    per_level = network.config.layers_per_block + 1
    named = {}
    for name, weight in network.state_dict().items():
        stem, _, kind = name.rpartition(".")
        named[f"{ENDS[stem]}.{kind}" if stem in ENDS else _unet_name(name, per_level, network)] = weight
    return named


def _unet_name(name: str, per_level: int, network: Any) -> str:
    stage, *numbers = re.match(r"(\w+?)(?:\.(\d+))?\.(\w+?)\.(\d+)\.", name + ".").groups()  # type: ignore[union-attr]
    if stage == "mid_block":
        kind, place = numbers[1], int(numbers[2])
        number = 2 * place + (kind == "attentions")
        return _inner(f"middle_block.{number}", kind, name.split(".", 3)[3])
    level, kind, place = int(numbers[0]), numbers[1], int(numbers[2])
    rest = name.split(".", 4)[4]
    if stage == "down_blocks":
        number = 1 + level * per_level + (place if kind != "downsamplers" else per_level - 1)
        if kind == "downsamplers":
            return f"input_blocks.{number}.0.op.{rest.removeprefix('conv.')}"
        return _inner(f"input_blocks.{number}.{int(kind == 'attentions')}", kind, rest)
    number = level * per_level + (place if kind != "upsamplers" else per_level - 1)
    if kind == "upsamplers":
        attends = hasattr(network.up_blocks[level], "attentions")
        return f"output_blocks.{number}.{2 if attends else 1}.{rest}"
    return _inner(f"output_blocks.{number}.{int(kind == 'attentions')}", kind, rest)


def _inner(block: str, kind: str, rest: str) -> str:
    if kind == "resnets":
        layer, _, last = rest.partition(".")
        rest = f"{RESNET[layer]}.{last}"
    return f"{block}.{rest}"


def vae_weights(vae: Any) -> Weights:
    levels = len(vae.config.up_block_types)
    named = {}
    for name, weight in vae.state_dict().items():
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda hit: f"up.{levels - 1 - int(hit[1])}.block.", new)
        new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda hit: f"up.{levels - 1 - int(hit[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda hit: f"mid.block_{int(hit[1]) + 1}", new)
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            for own, theirs in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
                new = new.replace(f".{own}.", f".{theirs}.")
            if new.endswith("weight") and weight.ndim == 2:
                weight = weight[:, :, None, None]  # convolutions of one pixel
        named[new] = weight
    return named


def text_weights(encoder: Any) -> Weights:
    return {name.removeprefix("text_model."): weight for name, weight in encoder.state_dict().items()}


def open_clip_weights(encoder: Any) -> Weights:
    """With queries, keys and values in one, and the projection transposed."""
    weights = text_weights(encoder)
    named = {}
    for name, weight in weights.items():
        if name == "text_projection.weight":
            named["text_projection"] = weight.T
        elif name in OPEN_CLIP_ENDS:
            named[OPEN_CLIP_ENDS[name]] = weight
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(\w+)", name):
            parts = [weights[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            named[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(parts)
        elif not re.search(r"self_attn\.[kv]_proj|position_ids", name):
            new = name.replace("encoder.layers.", "transformer.resblocks.")
            for own, theirs in OPEN_CLIP.items():
                new = new.replace(f".{own}.", f".{theirs}.")
            named[new] = weight
    return named


def controlnet_weights(network: Any) -> Weights:
    """Of a ControlNet whose images are eight times as large as its latents, as the original code has them."""
    hints, rest = {}, {}
    blocks = len(network.controlnet_cond_embedding.blocks)
    places = {
        "conv_in": 0,
        "conv_out": 2 * blocks + 2,
        **{f"blocks.{number}": 2 * number + 2 for number in range(blocks)},
    }
    for name, weight in network.state_dict().items():
        stem, _, kind = name.rpartition(".")
        if stem.startswith("controlnet_cond_embedding."):
            hints[f"input_hint_block.{places[stem.removeprefix('controlnet_cond_embedding.')]}.{kind}"] = weight
        elif stem.startswith("controlnet_down_blocks."):
            hints[f"zero_convs.{stem.rpartition('.')[2]}.0.{kind}"] = weight
        elif stem == "controlnet_mid_block":
            hints[f"middle_block_out.0.{kind}"] = weight
        else:
            rest[
                f"{ENDS[stem]}.{kind}"
                if stem in ENDS
                else _unet_name(name, network.config.layers_per_block + 1, network)
            ] = weight
    return hints | rest
