"""ControlNets for Sana: loading, matching with the model, and the residuals they give."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import SanaControlNetModel
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.errors import ModelError
from tokenflow.models.controlnet import open_controlnet, refuse_other_model

CLASSES = {"SanaControlNetModel": SanaControlNetModel}

MATCHING = {
    "in_channels": "number of latent channels",
    "num_attention_heads": "number of heads",
    "attention_head_dim": "width of a head",
    "caption_channels": "width of the prompt's states",
    "patch_size": "patch size",
}
"""What a ControlNet's configuration shares with its model's."""


class SanaControl:
    """A `Control`: what a ControlNet adds to the image tokens behind each of the transformer's first blocks.

    Args:
        network: the ControlNet.
        device: where it is.
        encode: images f 3 H W in [0, 1] -> latents f c h w; the network takes control images as latents.
    """

    def __init__(self, network: Any, device: torch.device, encode: Callable[[Tensor], Tensor]) -> None:
        self._network = network
        self._device = device
        self._encode = encode

    def __call__(
        self, latents: Tensor, level: Level, conditioning: Conditioning, images: Tensor, scale: float
    ) -> tuple[Tensor, ...]:
        """Residuals (b f) n d of each block, times `scale`.

        Args:
            latents: f c h w at `level`.
            level: of the schedule.
            conditioning: b n c, branches.
            images: f 3 H W in [0, 1], what the ControlNet was trained on, such as edges.
            scale: factor on all residuals.
        """
        branches, dtype = conditioning.branches, self._network.dtype
        per_frame = conditioning.for_frames(len(latents))
        with torch.no_grad():
            (residuals,) = self._network(
                latents.to(self._device, dtype).repeat(branches, 1, 1, 1),
                encoder_hidden_states=per_frame.tokens.to(dtype),
                encoder_attention_mask=per_frame.added["mask"],
                timestep=torch.full([branches * len(latents)], level.time, device=self._device),
                controlnet_cond=self._encode(images).to(self._device, dtype).repeat(branches, 1, 1, 1),
                conditioning_scale=scale,
                return_dict=False,
            )
        return tuple(residuals)


def load_sana_controlnet(path: str, detector: str, transformer: Any, device: torch.device) -> Any:
    """The ControlNet at a folder or Hub id, in the transformer's precision.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it was trained for another model, or cannot be loaded.
    """

    def check(config: Mapping[str, Any]) -> None:
        refuse_other_model(path, [(MATCHING[key], config[key], transformer.config[key]) for key in MATCHING])
        blocks = len(transformer.transformer_blocks)
        if config["num_layers"] >= blocks:
            raise ModelError(
                f"the ControlNet at {path!r} has {config['num_layers']} layers; expected fewer than the model's "
                f"{blocks}: set edit.controlnet.path to one trained for this model"
            )

    return open_controlnet(path, detector, CLASSES, check, transformer.dtype, device)
