"""ControlNets for FLUX.1: loading, matching with the model, and the residuals they give."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from diffusers import FluxControlNetModel
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.errors import ModelError
from tokenflow.models.controlnet import open_controlnet, refuse_other_model
from tokenflow.models.joint_transformer import TIMES

MATCHING = {
    "in_channels": "number of channels per token",
    "num_attention_heads": "number of heads",
    "attention_head_dim": "width of a head",
    "joint_attention_dim": "width of the prompt's states",
    "pooled_projection_dim": "width of the pooled state",
}
"""What a ControlNet's configuration shares with its model's."""

CLASSES = {"FluxControlNetModel": FluxControlNetModel}

UNION_MODES = {"canny": 0, "depth": 2, "openpose": 4}
"""The modes of ControlNets for several kinds of images (FLUX.1-dev-Controlnet-Union), by detector."""


class Tokens(Protocol):
    """How a model turns latents and prompts into what its ControlNets take."""

    device: torch.device

    def packed(self, latents: Tensor) -> Tensor:
        """Tokens f n c."""
        ...

    def positions(self, latents: Tensor, text_tokens: int) -> dict[str, Tensor]:
        """Of image and text tokens."""
        ...

    def prompt_inputs(self, conditioning: Conditioning, told_scale: bool) -> dict[str, Any]:
        """Pooled states, and the scale of guidance."""
        ...


class FluxControl:
    """A `Control`: what a ControlNet adds to the image tokens behind the transformer's blocks.

    Args:
        network: the ControlNet.
        model: gives tokens and their positions.
        encode: images f 3 H W in [0, 1] -> latents f c h w; most networks take control images as latents.
        detector: what makes the control images.

    Raises:
        ModelError: it is a union that was not trained on what the detector makes.
    """

    def __init__(self, network: Any, model: Tokens, encode: Callable[[Tensor], Tensor], detector: str) -> None:
        if network.union and detector not in UNION_MODES:
            raise ModelError(
                f"FLUX's union ControlNets take images of {', '.join(UNION_MODES)}, not of {detector}; set "
                "edit.controlnet.detector to one of these"
            )
        self._network = network
        self._mode = UNION_MODES[detector] if network.union else None
        self._model = model
        self._encode = encode

    def __call__(
        self, latents: Tensor, level: Level, conditioning: Conditioning, images: Tensor, scale: float
    ) -> dict[str, Any]:
        """Residuals (b f) n d of the blocks of either kind, times `scale`, as the transformer takes them.

        Args:
            latents: f c h w at `level`.
            level: of the schedule.
            conditioning: b n c, branches.
            images: f 3 H W in [0, 1], what the ControlNet was trained on, such as edges.
            scale: factor on all residuals.
        """
        network, model, branches = self._network, self._model, conditioning.branches
        dtype, count = network.dtype, branches * len(latents)
        per_frame = conditioning.for_frames(len(latents))
        takes_images = network.input_hint_block is not None
        shown = images.to(model.device) * 2 - 1 if takes_images else model.packed(self._encode(images))
        mode = None if self._mode is None else torch.full([count, 1], self._mode, device=model.device)
        with torch.no_grad():
            double, single = network(
                hidden_states=model.packed(latents).to(dtype).repeat(branches, 1, 1),
                controlnet_cond=shown.to(dtype).repeat(branches, *[1] * (shown.ndim - 1)),
                controlnet_mode=mode,
                conditioning_scale=scale,
                encoder_hidden_states=per_frame.tokens.to(dtype),
                timestep=torch.full([count], level.time / TIMES, device=model.device),
                return_dict=False,
                **model.positions(latents, conditioning.tokens.shape[1]),
                **model.prompt_inputs(per_frame, network.config.guidance_embeds),
            )
        return {
            "controlnet_block_samples": double,
            "controlnet_single_block_samples": single,
            "controlnet_blocks_repeat": takes_images,
        }


def load_flux_controlnet(path: str, detector: str, transformer: Any, device: torch.device) -> Any:
    """The ControlNet at a folder or Hub id, in the transformer's precision.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it was trained for another model, or cannot be loaded.
    """

    def check(config: Mapping[str, Any]) -> None:
        refuse_other_model(path, [(MATCHING[key], config[key], transformer.config[key]) for key in MATCHING])

    return open_controlnet(path, detector, CLASSES, check, transformer.dtype, device)
