"""ControlNets: loading them and matching them with a model; and those for UNets, with the residuals they give."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.controlnet_file import SETTING, load_controlnet_file, refuse_surplus
from tokenflow.models.checkpoints.controlnet_name import notice_other_images
from tokenflow.models.checkpoints.file_kinds import is_file_name, is_union
from tokenflow.models.checkpoints.hub import local_file
from tokenflow.models.checkpoints.network import fetch_weights, find_network, with_defaults
from tokenflow.models.checkpoints.weights import load_weights, weight_names
from tokenflow.models.detectors import KINDS
from tokenflow.models.placement import prepare
from tokenflow.models.residuals import UNetResiduals

UNION, ADAPTER = "ControlNetUnionModel", "T2IAdapter"
CLASSES = {
    "ControlNetModel": ControlNetModel,
    UNION: ControlNetUnionModel,
    "ControlNetModel_Union": ControlNetUnionModel,
    ADAPTER: T2IAdapter,
}
"""By `_class_name` of their config.json."""

IMAGE_CHANNELS = 3


class UNetControl:
    """A `Control`: the residuals of a ControlNet for the UNet's skip connections and its middle.

    Args:
        network: the ControlNet.
        device: where it is.
        union_type: the number of the images that it is given, for a union ControlNet.
    """

    def __init__(self, network: Any, device: torch.device, union_type: int | None = None) -> None:
        self._network = network
        self._device = device
        self._union_type = union_type

    def __call__(
        self, latents: Tensor, level: Level, conditioning: Conditioning, images: Tensor, scale: float
    ) -> UNetResiduals:
        """Residuals (b f) d h w of each skip connection and of the middle, times `scale`.

        Args:
            latents: f c h w at `level`.
            level: of the schedule.
            conditioning: b n c, branches.
            images: f 3 H W in [0, 1], what the ControlNet was trained on, such as edges.
            scale: factor on all residuals.
        """
        branches, dtype = conditioning.branches, self._network.dtype
        shown = images.to(self._device, dtype).repeat(branches, 1, 1, 1)
        with torch.no_grad():
            per_frame = conditioning.for_frames(len(latents))
            down, middle = self._network(
                latents.to(self._device, dtype).repeat(branches, 1, 1, 1),
                int(level.time),
                encoder_hidden_states=per_frame.tokens.to(dtype),
                added_cond_kwargs=dict(per_frame.added) or None,
                return_dict=False,
                **self._images(shown),
            )
        return UNetResiduals(tuple(each * scale for each in down), middle * scale)

    def _images(self, shown: Tensor) -> dict[str, Any]:
        """The images, (b f) 3 H W, as the network takes them."""
        if self._union_type is None:
            return {"controlnet_cond": shown}
        kinds = torch.zeros(len(shown), self._network.config.num_control_type).to(shown)  # (b f) kinds
        kinds[:, self._union_type] = 1
        return {"controlnet_cond": [shown], "control_type": kinds, "control_type_idx": [self._union_type]}


class AdapterControl:
    """A `Control`: what a T2I-Adapter (Mou et al., AAAI 2024) adds to the UNet's encoder, which depends on images only.

    Args:
        network: the adapter.
        device: where it is.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network = network
        self._device = device

    def __call__(
        self, latents: Tensor, level: Level, conditioning: Conditioning, images: Tensor, scale: float
    ) -> UNetResiduals:
        """Features (b f) d h w behind each block of the encoder, times `scale`; arguments as `UNetControl`."""
        shown = images if self._network.config.in_channels == 3 else images.mean(dim=1, keepdim=True)
        with torch.no_grad():
            features = self._network(shown.to(self._device, self._network.dtype))
        return UNetResiduals(features=tuple((each * scale).repeat(conditioning.branches, 1, 1, 1) for each in features))


def unet_control(network: Any, detector: str, device: torch.device) -> UNetControl | AdapterControl:
    """The `Control` of a loaded network, for images of a detector."""
    name = type(network).__name__
    if name == ADAPTER:
        return AdapterControl(network, device)
    return UNetControl(network, device, KINDS[detector].union_type if name == UNION else None)


def load_controlnet(path: str, detector: str, unet: Any, pixels_per_latent: int, device: torch.device) -> Any:
    """The ControlNet, union ControlNet or T2I-Adapter at a path or Hub id, in the UNet's precision.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it was trained for another model, or cannot be loaded.
    """

    def check(config: Mapping[str, Any]) -> None:
        if config.get("_class_name") == ADAPTER:
            widths = tuple(unet.config.block_out_channels)
            refuse_other_model(path, [("list of block widths", tuple(config["channels"])[: len(widths)], widths)])
            return
        scale = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
        model = unet.config
        compared = [
            ("cross-attention width", config["cross_attention_dim"], model.cross_attention_dim),
            ("number of latent channels", config["in_channels"], model.out_channels),
            ("list of block widths", tuple(config["block_out_channels"]), tuple(model.block_out_channels)),
            ("number of layers per block", config["layers_per_block"], model.layers_per_block),
            ("number of pixels per latent", scale, pixels_per_latent),
            ("number of channels of an image", config["conditioning_channels"], IMAGE_CHANNELS),
        ]
        refuse_other_model(path, compared)

    if not is_file_name(path):
        return open_controlnet(path, detector, CLASSES, check, unet.dtype, device)
    network = load_controlnet_file(local_file(path, SETTING), unet)
    check(network.config)
    if type(network).__name__ != UNION:
        notice_other_images(path, detector)
    prepare(network.to(device))
    return network


def open_controlnet(
    path: str,
    detector: str,
    classes: Mapping[str, Any],
    check: Callable[[Mapping[str, Any]], None],
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    """The ControlNet at a folder or Hub id, of a class of diffusers, on a device.

    Args:
        path: where it is.
        detector: makes the images that it is given.
        classes: those it may have, by name.
        check: called with its configuration before any weight is read; may raise.
        dtype: of its weights.
        device: where it will work.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it is of another class, or cannot be loaded.
    """
    found = find_network("ControlNet", SETTING, path, ("",))
    network_class = _class_of(path, found.config, classes)
    check({"_class_name": network_class.__name__, **with_defaults(found.config, network_class)})
    variant = fetch_weights(found, dtype)
    if network_class is ControlNetModel and is_union(weight_names(found.folder, variant)):
        network_class = ControlNetUnionModel
    if network_class is not ControlNetUnionModel:
        notice_other_images(path, detector)
    what = f"the ControlNet at {path!r}"
    network, surplus = load_weights(what, SETTING, network_class, found.folder, variant, dtype)
    refuse_surplus(path, surplus)
    prepare(network.to(device))
    return network


def _class_of(path: str, config: Mapping[str, Any], classes: Mapping[str, Any]) -> Any:
    """A ControlNet's class.

    Raises:
        ModelError: it is none of those.
    """
    found = config.get("_class_name", "not given")
    if not isinstance(found, str) or found not in classes:
        raise ModelError(
            f"the class of {path!r} is {found}; expected {'' if len(classes) == 1 else 'one of '}{', '.join(classes)}: "
            f"set {SETTING} to another"
        )
    return classes[found]


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
