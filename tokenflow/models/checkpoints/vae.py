"""An autoencoder in place of a model's own: a folder, a `.safetensors` file, or a Hub id."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import is_file_name, is_tiny_vae, is_vae, read_header
from tokenflow.models.checkpoints.folder import CONFIG
from tokenflow.models.checkpoints.hub import current_name, local_file
from tokenflow.models.checkpoints.network import fetch_weights, find_network, with_defaults
from tokenflow.models.checkpoints.reasons import UNUSABLE
from tokenflow.models.checkpoints.stable_diffusion_settings import read_settings
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
    path = current_name(path, SETTING)
    if is_file_name(path):
        return _load_file(local_file(path, SETTING), model, dtype)
    found = find_network("VAE", SETTING, path, ("", "vae"))
    class_name = found.config.get("_class_name")
    if class_name not in CLASSES:
        raise ModelError(
            f"the class of {path!r} is {class_name}; expected one of {', '.join(CLASSES)}: set {SETTING} to one"
        )
    vae_class = getattr(diffusers, class_name)
    _check_channels(path, with_defaults(found.config, vae_class)["latent_channels"], model)
    variant = fetch_weights(found, dtype)
    vae, _ = load_weights(f"the VAE {path!r}", SETTING, vae_class, found.folder, variant, dtype)
    return vae


def _check_channels(path: str, channels: int, model: Path) -> None:
    """Refuse an autoencoder whose latents have other channels than those of the model's own, if it has one.

    Raises:
        ModelError: they have.
    """
    expected = read_settings(model / "vae" / CONFIG).get("latent_channels", channels)
    if channels != expected:
        raise ModelError(
            f"the latents of the VAE {path!r} have {channels} channels, the model's have {expected}; set {SETTING} to "
            "one made for this model"
        )


def _load_file(path: str, model: Path, dtype: torch.dtype) -> Any:
    header = read_header(path, SETTING)
    if not is_vae(header):
        raise ModelError(f"the file {path!r} holds something other than a VAE; set {SETTING} to another")
    if is_tiny_vae(header):
        return _load_tiny(path, dtype)
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


def _load_tiny(path: str, dtype: torch.dtype) -> Any:
    """A TAESD, all of which have one configuration, that of the class."""
    vae = AutoencoderTiny()
    try:
        vae.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ModelError(
            f"the file {path!r} is an AutoencoderTiny of another size than TAESD; set {SETTING} to its folder or Hub id"
        ) from error
    return vae.to(dtype)


def _misfit(path: str) -> str:
    return (
        f"the VAE file {path!r} does not fit the model's own configuration of a VAE; set {SETTING} to another, or to a "
        "folder or Hub id"
    )
