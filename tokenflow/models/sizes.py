"""What a model's configuration files tell without loading it: enough to estimate what an inversion takes."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenflow.diffusion.few_step import few_step_of, flux_few_step
from tokenflow.models.checkpoints.hub import cached_file
from tokenflow.models.presets import full_name


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model; by default those of Stable Diffusion 1.x.

    Attributes:
        native: pixels of the shorter side of the images it was trained on.
        multiple: width and height have to be multiples of this, in pixels.
        latent_scale: pixels per latent along each side.
        latent_channels: channels per latent.
    """

    native: int = 512
    multiple: int = 64
    latent_scale: int = 8
    latent_channels: int = 4


def sizes_of(path: str) -> Sizes:
    """Sizes of the model in a folder or, if it was downloaded before, under a Hub id; else the defaults."""
    autoencoder = _configuration(path, "vae")
    with suppress(KeyError):
        return _with_unet(_configuration(path, "unet"), autoencoder)
    transformer = _configuration(path, "transformer")
    if "joint_attention_dim" in transformer:
        with suppress(KeyError):
            return _with_joint_transformer(transformer, autoencoder)
    with suppress(KeyError):
        return _with_transformer(transformer, autoencoder)
    return Sizes()


def is_few_step(path: str, asked: bool | None) -> bool:
    """Whether a model samples in few steps, by its scheduler's file unless `asked` says so."""
    scheduler = _configuration(path, "scheduler", "scheduler_config.json")
    transformer = _configuration(path, "transformer")
    if "joint_attention_dim" in transformer:
        index = _configuration(path, "", "model_index.json")
        is_flux2 = "rope_theta" in transformer
        told_scale = is_flux2 or bool(transformer.get("guidance_embeds"))
        distilled = bool(index.get("is_distilled"))
        return flux_few_step(scheduler, told_scale=told_scale, distilled=distilled, asked=asked) is not None
    return few_step_of(scheduler.get("_class_name", ""), scheduler, asked) is not None


def _with_unet(network: dict[str, Any], autoencoder: dict[str, Any]) -> Sizes:
    """Of Stable Diffusion."""
    scale = 2 ** (len(autoencoder["block_out_channels"]) - 1)
    coarsest = 2 ** (len(network["block_out_channels"]) - 1)
    return Sizes(scale * network["sample_size"], scale * coarsest, scale, autoencoder["latent_channels"])


def _with_transformer(network: dict[str, Any], autoencoder: dict[str, Any]) -> Sizes:
    """Of Sana."""
    scale = 2 ** (len(autoencoder["encoder_block_out_channels"]) - 1)
    return Sizes(scale * network["sample_size"], scale * network["patch_size"], scale, autoencoder["latent_channels"])


def _with_joint_transformer(network: dict[str, Any], autoencoder: dict[str, Any]) -> Sizes:
    """Of FLUX, whose tokens span two latents along each side."""
    scale = 2 ** (len(autoencoder["block_out_channels"]) - 1)
    return Sizes(autoencoder["sample_size"], 2 * scale, scale, network["in_channels"] // 4)


def _configuration(path: str, part: str, name: str = "config.json") -> dict[str, Any]:
    """A part's configuration; empty if it is not there or cannot be read, of which loading the model says why."""
    path = full_name(path)
    try:
        here = Path(path) / part / name
        file = here if here.is_file() else cached_file(path, (Path(part) / name).as_posix())
        return {} if file is None else json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
