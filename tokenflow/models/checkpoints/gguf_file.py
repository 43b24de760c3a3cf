"""Transformers in GGUF files: their weights stay as few bits as they are, and diffusers' layers widen them in use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tokenflow.errors import ModelError, ModelNotFoundError, looked_in
from tokenflow.models.checkpoints.file_kinds import UNET, Header, Weight
from tokenflow.models.checkpoints.reasons import first_line

SUFFIX = ".gguf"

OF_UNETS = ("input_blocks.", "down_blocks.")
"""How names of a UNet's weights begin, in the original code and in diffusers."""


def is_gguf(path: str) -> bool:
    """Whether a path is that of a GGUF file, in any case."""
    return path.lower().endswith(SUFFIX)


def read_gguf_header(path: str) -> Header:
    """Names, shapes and kinds of quantisation of the weights in a file.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: it is damaged, or the package that reads it is missing.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            f"the model {path!r} is a GGUF file, which needs the package gguf; install it with: "
            'pip install "tokenflow[quantization]"'
        ) from None
    if not Path(path).is_file():
        raise ModelNotFoundError(f"the model file {path!r} was not found{looked_in(path)}; set model.path")
    try:
        tensors = GGUFReader(path).tensors
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(
            f"the model file {path!r} cannot be loaded ({first_line(error)}); expected a whole GGUF file: download it "
            "again, or set model.path to another"
        ) from error
    return {each.name: Weight(tuple(map(int, reversed(each.shape))), each.tensor_type.name) for each in tensors}


def refuse_gguf(path: str, header: Header) -> NoReturn:
    """Say what a file without a transformer of Sana or FLUX is.

    Raises:
        ModelError: always.
    """
    if any(name.removeprefix(UNET).startswith(OF_UNETS) for name in header):
        raise ModelError(
            f"the GGUF file {path!r} has the UNet of a Stable Diffusion in it, and UNets are read from .safetensors "
            "only; set model.path to the same model in .safetensors, with model.quantization=int8 to make it smaller"
        )
    raise ModelError(f"the GGUF file {path!r} has no transformer of Sana or FLUX in it; set model.path to another")


def load_gguf(path: str) -> Mapping[str, Any]:
    """The weights in a file, as diffusers takes them.

    Raises:
        ModelError: diffusers does not read a kind of quantisation in it.
    """
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    try:
        weights: dict[str, Any] = load_gguf_checkpoint(path)
    except ValueError as error:
        raise ModelError(
            f"the model file {path!r} cannot be loaded ({first_line(error)}); set model.path to one of the kinds Q4_0 "
            "to Q8_0 or Q2_K to Q6_K"
        ) from error
    return weights
