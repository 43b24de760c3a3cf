"""A transformer in a `.safetensors` or GGUF file of its own, named as in the original code or as diffusers names it.

Everything else comes from the model that it descends from.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import UNET, Header
from tokenflow.models.checkpoints.gguf_file import is_gguf, load_gguf
from tokenflow.models.checkpoints.reasons import UNUSABLE
from tokenflow.models.checkpoints.weights import check_complete, without_values

FAMILIES = {
    "Sana": ("SanaTransformer2DModel", ("attention_y_norm.weight", "caption_norm.weight")),
    "FLUX.2": (
        "Flux2Transformer2DModel",
        ("single_stream_modulation.lin.weight", "single_stream_modulation.linear.weight"),
    ),
    "FLUX.1": (
        "FluxTransformer2DModel",
        ("double_blocks.0.img_attn.norm.key_norm.scale", "single_transformer_blocks.0.norm.linear.weight"),
    ),
}
"""The class of each family's transformer, and weights that related transformers lack, by their original names and by
those of diffusers."""

OTHERS = ("distilled_guidance_layer.", "controlnet_")
"""How names begin in Chroma and in ControlNets, which share such a weight with FLUX.1."""


def transformer_family(header: Header) -> str | None:
    """The family of the transformer that a file holds; None for anything else."""
    names = {name.removeprefix(UNET) for name in header}
    if any(name.startswith(OTHERS) for name in names):
        return None
    return next((family for family, (_, marks) in FAMILIES.items() if names & {*marks}), None)


def class_of_transformer(family: str) -> str:
    """The name of its class in diffusers."""
    return FAMILIES[family][0]


def load_transformer(path: str, family: str, base: str, folder: Path, dtype: torch.dtype) -> Any:
    """The transformer in a file.

    Args:
        path: of the file.
        family: of the transformer.
        base: names the model whose configuration is used, for errors.
        folder: has that configuration.
        dtype: precision to load in.

    Raises:
        ModelError: weights are missing, or do not fit the configuration.
    """
    misfit = (
        f"the weights of the model file {path!r} do not fit the transformer of {base!r}; set model.base to the "
        f"{family} that the file descends from"
    )
    found, options = (load_gguf(path), _gguf(dtype)) if is_gguf(path) else (load_file(path), {})
    weights = {name.removeprefix(UNET): weight for name, weight in found.items()}
    count = len(weights)
    network_class = getattr(diffusers, class_of_transformer(family))
    try:
        # Without the configuration, any FLUX.2 would be taken for FLUX.2 [dev].
        network = network_class.from_single_file(
            weights, config=str(folder), subfolder="transformer", dtype=dtype, **options
        )
    except (NotImplementedError, IndexError, KeyError, *UNUSABLE) as error:
        raise ModelError(misfit) from error
    check_complete(f"the model file {path!r}", "model.path", without_values(network))
    if any(name in weights for name in network.state_dict()) and count > len(network.state_dict()):
        raise ModelError(misfit)  # diffusers would leave the rest out
    return network if options else network.to(dtype)  # what is quantised cannot be converted


def _gguf(dtype: torch.dtype) -> dict[str, Any]:
    """What diffusers is told to keep the weights of a GGUF file as they are, and to multiply in a precision."""
    return {"quantization_config": diffusers.GGUFQuantizationConfig(compute_dtype=dtype)}
