"""ControlNets: loading them and matching them with a model; and those for UNets, with the residuals they give."""

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.errors import ModelError
from tokenflow.events import notice
from tokenflow.models.checkpoints.controlnet_file import SETTING, load_controlnet_file, refuse_surplus
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.network import find_network
from tokenflow.models.checkpoints.weights import load_weights
from tokenflow.models.placement import prepare

EDGES = {"canny", "edge", "edges"}
OTHER_IMAGES = {
    *("blur", "brightness", "depth", "hed", "inpaint", "lineart", "mlsd", "normal", "normalbae", "openpose", "pose"),
    *("qrcode", "scribble", "seg", "segmentation", "shuffle", "sketch", "softedge", "tile"),
}
"""Words in the names of ControlNets, by what images they were trained on."""


MAX_ENCODED = 512
"""Control images whose latents are kept."""


class EncodedImages:
    """Latents of control images, each encoded once: a clip's edges come again at every step.

    Args:
        encode: images f 3 H W in [0, 1] -> latents f c h w.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor]) -> None:
        self._encode = encode
        self._encoded: dict[bytes, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Latents f c h w, in main memory, of images f 3 H W in [0, 1]."""
        keys = [sha256(image.cpu().numpy().tobytes()).digest() for image in images]
        missing = [index for index, key in enumerate(keys) if key not in self._encoded]
        if missing:
            encoded = self._encode(images[missing]).cpu()
            self._encoded |= {keys[index]: latents for index, latents in zip(missing, encoded, strict=True)}
        found = torch.stack([self._encoded[key] for key in keys])
        while len(self._encoded) > MAX_ENCODED:  # the oldest first
            del self._encoded[next(iter(self._encoded))]
        return found


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
    """The ControlNet at a folder, `.safetensors` file or Hub id, in the UNet's precision.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it was trained for another model, or cannot be loaded.
    """

    def check(config: Mapping[str, Any]) -> None:
        scale = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
        model = unet.config
        compared = [
            ("cross-attention width", config["cross_attention_dim"], model.cross_attention_dim),
            ("number of latent channels", config["in_channels"], model.in_channels),
            ("list of block widths", tuple(config["block_out_channels"]), tuple(model.block_out_channels)),
            ("number of layers per block", config["layers_per_block"], model.layers_per_block),
            ("number of pixels per latent", scale, pixels_per_latent),
        ]
        refuse_other_model(path, compared)

    if not is_file_name(path):
        return open_controlnet(path, ControlNetModel, check, unet.dtype, device)
    _notice_other_images(path)
    network = load_controlnet_file(path, unet)
    check(network.config)
    prepare(network.to(device))
    return network


def open_controlnet(
    path: str, network_class: Any, check: Callable[[Mapping[str, Any]], None], dtype: torch.dtype, device: torch.device
) -> Any:
    """The ControlNet at a folder or Hub id, of a class of diffusers, on a device.

    Args:
        path: where it is.
        network_class: its class.
        check: called with its configuration before any weight is read; may raise.
        dtype: of its weights.
        device: where it will work.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it is of another class, or cannot be loaded.
    """
    found = find_network("ControlNet", SETTING, path, ("",), dtype)
    refuse_other_class(path, found.config, network_class)
    check(found.config)
    _notice_other_images(path)
    what = f"the ControlNet at {path!r}"
    network, surplus = load_weights(what, SETTING, network_class, found.folder, found.variant, dtype)
    refuse_surplus(path, surplus)
    prepare(network.to(device))
    return network


def refuse_other_class(path: str, config: Mapping[str, Any], network_class: Any) -> None:
    """Check a ControlNet's class.

    Raises:
        ModelError: it is another one.
    """
    found, expected = config.get("_class_name", "model without a class name"), network_class.__name__
    if found != expected:
        raise ModelError(f"{path!r} is a {found}; expected a {expected}: set {SETTING}")


def refuse_other_model(path: str, compared: Iterable[tuple[str, Any, Any]]) -> None:
    """Check that a ControlNet was trained for a model.

    Args:
        path: where it is.
        compared: what is compared, the ControlNet's value, and the model's.

    Raises:
        ModelError: two values differ.
    """
    for what, got, expected in compared:
        if got != expected:
            raise ModelError(
                f"the ControlNet at {path!r} was trained for another model: its {what} is {got}, the model's is "
                f"{expected}; set {SETTING} to one trained for this model"
            )


def _notice_other_images(path: str) -> None:
    """Weights do not tell what images a ControlNet was trained on; its name usually does."""
    words = re.findall(r"[a-z]+", Path(path).name.lower())
    others = [word for word in words if word in OTHER_IMAGES]
    if others and not EDGES & {*words}:
        notice(
            f"the ControlNet {path!r} is named after {others[0]} and will be given Canny edges; expected one that was "
            f"trained on them: set {SETTING}"
        )
