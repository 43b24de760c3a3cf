"""An autoencoder in place of a model's own: a folder, a `.safetensors` file, or a Hub id."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import is_file_name, is_vae, read_header
from tokenflow.models.checkpoints.network import CONFIG, find_network
from tokenflow.models.checkpoints.reasons import UNUSABLE
from tokenflow.models.checkpoints.weights import load_weights

SETTING = "model.vae"

TRAINING = ("loss.", "model_ema.")
"""Weights in the files of VAEs that only their training needs."""

CLASSES = ("AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderTiny", "AutoencoderDC")


def load_vae(path: str, model: Path, dtype: torch.dtype) -> Any:
    """The autoencoder at a path.

    Args:
        path: a folder with the autoencoder or with a whole model, a file, or the Hub id of either.
        model: the folder of the model, whose configuration of the autoencoder a file is read with.
        dtype: precision to load in.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it is something else, damaged, or does not fit the configuration.
    """
    if is_file_name(path):
        return _load_file(path, model, dtype)
    found = find_network("VAE", SETTING, path, ("", "vae"), dtype)
    class_name = found.config.get("_class_name")
    if class_name not in CLASSES:
        raise ModelError(f"{path!r} is a {class_name}; expected one of {', '.join(CLASSES)}: set {SETTING} to one")
    what = f"the VAE {path!r}"
    vae, _ = load_weights(what, SETTING, getattr(diffusers, class_name), found.folder, found.variant, dtype)
    return vae


def _load_file(path: str, model: Path, dtype: torch.dtype) -> Any:
    header = read_header(path, SETTING)
    if not is_vae(header):
        raise ModelError(f"the file {path!r} holds something other than a VAE; set {SETTING} to another")
    if not (model / "vae" / CONFIG).is_file():
        raise ModelError(
            f"the VAE file {path!r} needs the configuration of a VAE, which the model does not have; set {SETTING} to "
            "a folder or Hub id"
        )
    try:
        vae = AutoencoderKL.from_single_file(load_file(path), config=str(model), subfolder="vae", dtype=dtype)
    except UNUSABLE as error:
        raise ModelError(_misfit(path)) from error
    if sum(not name.startswith(TRAINING) for name in header) > len(vae.state_dict()):
        raise ModelError(_misfit(path))
    return vae


def _misfit(path: str) -> str:
    return (
        f"the VAE file {path!r} does not fit the model's own configuration of a VAE; set {SETTING} to another, or to a "
        "folder or Hub id"
    )
