"""Sana's transformer in a `.safetensors` file of its own, named as in the original code or as diffusers names it.

Everything else comes from the model that it descends from.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import SanaTransformer2DModel
from safetensors.torch import load_file

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import UNET, Header
from tokenflow.models.checkpoints.reasons import UNUSABLE
from tokenflow.models.checkpoints.weights import check_complete, without_values

MARKS = ("attention_y_norm.weight", "caption_norm.weight")
"""A weight that Sana has and related transformers lack, by its original name and by that of diffusers."""


def is_sana(header: Header) -> bool:
    """Whether a file holds a transformer of Sana."""
    return any(name.removeprefix(UNET) in MARKS for name in header)


def load_sana_transformer(path: str, base: str, folder: Path, dtype: torch.dtype) -> Any:
    """The transformer in a file.

    Args:
        path: of the file.
        base: names the model whose configuration is used, for errors.
        folder: has that configuration.
        dtype: precision to load in.

    Raises:
        ModelError: weights are missing, or do not fit the configuration.
    """
    misfit = (
        f"the weights of the model file {path!r} do not fit the transformer of {base!r}; set model.base to the Sana "
        "that the file descends from"
    )
    weights = load_file(path)
    count = len(weights)
    try:
        network = SanaTransformer2DModel.from_single_file(
            weights, config=str(folder), subfolder="transformer", dtype=dtype
        )
    except (NotImplementedError, IndexError, *UNUSABLE) as error:
        raise ModelError(misfit) from error
    check_complete(f"the model file {path!r}", "model.path", without_values(network))
    if any(name in weights for name in network.state_dict()) and count > len(network.state_dict()):
        raise ModelError(misfit)  # diffusers would leave the rest out
    return network.to(dtype)
