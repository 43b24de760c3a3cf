"""A ControlNet in one `.safetensors` file, named as in the original code or as diffusers names it."""

from collections.abc import Collection
from itertools import count, takewhile
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from diffusers.configuration_utils import FrozenDict
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import (
    UNION,
    Header,
    is_controlnet,
    is_union,
    other_kind,
    read_header,
)

SETTING = "edit.controlnet.path"

PREFIX = "control_model."
"""Of the original code's names, where a file has other parts beside."""

UNION_LAYERS = "transformer_layes."
"""How diffusers spells the layers that mix the images of a union."""

HINTS = (
    ("controlnet_cond_embedding.conv_in.weight", "controlnet_cond_embedding.blocks.{}.weight", 1, 2),
    ("input_hint_block.0.weight", "input_hint_block.{}.weight", 4, 4),
    (f"{PREFIX}input_hint_block.0.weight", f"{PREFIX}input_hint_block.{{}}.weight", 4, 4),
)
"""The convolutions that take in the image, in each naming: the first, then the number of the next wider one, and how
far it is from there to the one after it."""


def load_controlnet_file(path: str, unet: Any) -> Any:
    """The ControlNet in a file.

    Its architecture is that of the UNet's encoder, so the UNet's configuration describes it; a union of several has
    more layers.

    Args:
        path: of the file.
        unet: of the model that it is for; it is loaded in the UNet's precision.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: it holds something else, is damaged, or was trained for another model.
    """
    try:
        with torch.device("meta"):
            network = unloaded(path, unet)
        weights = convert_controlnet_checkpoint(load_file(path), network.config)
        present = {name: weight for name, weight in weights.items() if weight is not None}
        missing, surplus = network.load_state_dict(present, strict=False, assign=True)
    except (RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"the ControlNet at {path!r} was trained for another model: its weights do not fit this one's; set "
            f"{SETTING} to one trained for this model"
        ) from error
    if missing:
        raise ModelError(
            f"the ControlNet at {path!r} lacks {len(missing)} of the weights of one for this model, such as "
            f"{min(missing)}; download it again, or set {SETTING} to one trained for this model"
        )
    refuse_surplus(path, surplus)
    return network.to(unet.dtype)


def unloaded(path: str, unet: Any) -> Any:
    """The network of a file, before its weights are loaded; arguments and errors as `load_controlnet_file`."""
    header = read_header(path, SETTING)
    if not is_controlnet(header) or (widths := _hint_widths(header)) is None:
        kind = other_kind(path, header) or "a whole checkpoint"
        raise ModelError(f"the file {path!r} is {kind}; expected a ControlNet: set {SETTING} to another")
    # ControlNets of inpainting models take latents alone.
    encoder = SimpleNamespace(config=FrozenDict({**unet.config, "in_channels": unet.config.out_channels}))
    network = ControlNetModel.from_unet(
        encoder, conditioning_embedding_out_channels=widths, load_weights_from_unet=False
    )
    if not is_union(header):
        return network
    return ControlNetUnionModel.from_config({**network.config, **_union_sizes(header)})


def refuse_surplus(path: str, surplus: Collection[str]) -> None:
    """Refuse a ControlNet with weights that its class does not have.

    Raises:
        ModelError: there are such weights.
    """
    if surplus:
        raise ModelError(
            f"the ControlNet at {path!r} has {len(surplus)} weight{'s' if len(surplus) > 1 else ''} that an ordinary "
            f"ControlNet does not have, such as {min(surplus)}; set {SETTING} to another"
        )


def _union_sizes(header: Header) -> dict[str, int]:
    """What tells unions of several ControlNets apart, by the names of their class's arguments."""
    kinds, width = header[UNION].shape
    layers = {name.split(".")[1] for name in header if name.startswith(UNION_LAYERS)}
    projected = header["spatial_ch_projs.weight"].shape[0]
    return {
        "num_control_type": kinds,
        "num_trans_channel": width,
        "num_trans_layer": len(layers),
        "num_proj_channel": projected,
    }


def _hint_widths(header: Header) -> tuple[int, ...] | None:
    """The widths of the convolutions that take in the image; None if they are not there."""
    for first, later, start, apart in HINTS:
        if first in header:
            names = (later.format(number) for number in count(start, apart))
            return tuple(header[name].shape[0] for name in (first, *takewhile(header.__contains__, names)))
    return None
