"""ControlNets for the UNets of Stable Diffusion: loading, matching with the model, and the residuals they give."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.checkpoints.reasons import DAMAGED, first_line, hub_reason
from tokenflow.models.placement import prepare

EXPECTED = "expected a folder with config.json and safetensors weights, or a Hub id: set edit.controlnet.path"


class UNetControl:
    """A `Control`: the residuals of a ControlNet for the UNet's skip connections and its middle.

    Args:
        path: where it was loaded from.
        network: the ControlNet.
        device: where it is.
    """

    def __init__(self, path: str, network: Any, device: torch.device) -> None:
        self.path = path
        self._network = network
        self._device = device

    def __call__(
        self, latents: Tensor, level: Level, conditioning: Conditioning, images: Tensor, scale: float
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Residuals (b f) d h w of each skip connection and of the middle, times `scale`.

        Args:
            latents: f c h w at `level`.
            level: of the schedule.
            conditioning: b n c, branches.
            images: f 3 H W in [0, 1], what the ControlNet was trained on, such as edges.
            scale: factor on all residuals.
        """
        branches, dtype = conditioning.branches, self._network.dtype
        with torch.no_grad():
            per_frame = conditioning.for_frames(len(latents))
            down, middle = self._network(
                latents.to(self._device, dtype).repeat(branches, 1, 1, 1),
                int(level.time),
                encoder_hidden_states=per_frame.tokens.to(dtype),
                added_cond_kwargs=dict(per_frame.added) or None,
                controlnet_cond=images.to(self._device, dtype).repeat(branches, 1, 1, 1),
                return_dict=False,
            )
        return tuple(each * scale for each in down), middle * scale


def load_controlnet(path: str, unet: Any, pixels_per_latent: int, device: torch.device) -> Any:
    """The ControlNet at a folder or Hub id, in the UNet's precision.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it was trained for another model, or cannot be loaded.
    """
    try:
        config = ControlNetModel.load_config(path)
    except OSError as error:
        is_folder = Path(path).is_dir()
        reason = "it has no config.json" if is_folder else f"there is no such folder, and {hub_reason(error)}"
        raise ModelNotFoundError(f"there is no ControlNet at {path!r}: {reason}; {EXPECTED}") from error
    _check_match(path, config, unet.config, pixels_per_latent)
    try:
        network = ControlNetModel.from_pretrained(path, dtype=unet.dtype, use_safetensors=True)
    except DAMAGED as error:
        raise ModelError(f"the ControlNet at {path!r} cannot be loaded ({first_line(error)}); {EXPECTED}") from error
    prepare(network.to(device))
    return network


def _check_match(path: str, config: Mapping[str, Any], model: Any, pixels_per_latent: int) -> None:
    if config.get("_class_name") != "ControlNetModel":
        raise ModelError(
            f"{path!r} is a {config.get('_class_name', 'model without a class name')}; expected a ControlNetModel: set "
            "edit.controlnet.path"
        )
    scale = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
    for what, got, expected in (
        ("cross-attention width", config["cross_attention_dim"], model.cross_attention_dim),
        ("number of latent channels", config["in_channels"], model.in_channels),
        ("list of block widths", tuple(config["block_out_channels"]), tuple(model.block_out_channels)),
        ("number of layers per block", config["layers_per_block"], model.layers_per_block),
        ("number of pixels per latent", scale, pixels_per_latent),
    ):
        if got != expected:
            raise ModelError(
                f"the ControlNet at {path!r} was trained for another model: its {what} is {got}, the model's is "
                f"{expected}; set edit.controlnet.path to one trained for this model"
            )
