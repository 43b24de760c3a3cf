"""Weights of linear layers in fewer bits, by torchao: which layers, on which devices, and what they then take.

Activations stay in the model's precision, but for `nvfp4`, whose products are in four bits on both sides. Convolutions
and autoencoders stay as they are.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from tokenflow.errors import ConfigError

GROUP = 64
"""Weights of int4 that share a scale: it divides the widths of all published models."""

PADDED = 1024
"""torch's int4 kernel pads the width of a layer to a multiple of this."""

BLOCK = 16
"""Weights of nvfp4 that share a scale."""

OF_TIME = "time_emb_proj"
"""Projections of the time in the residual blocks of a UNet: small, and an error in them shifts whole channels."""


@dataclass(frozen=True)
class Kind:
    """A way to store weights.

    Attributes:
        config: torchao's configuration of it.
        fits: whether the layer is one that it can hold in fewer bits.
        devices: types of device that have it.
        capability: the least compute capability of a GPU.
        dtype: the precision that everything else has to be in; None for any.
        bits: per weight, with the scale of its group; int8 and fp8 have one scale per row.
        padding: the kernel pads the width of a layer to a multiple of this.
    """

    config: Callable[[], Any]
    bits: float
    fits: Callable[[nn.Linear], bool] = lambda layer: True
    devices: tuple[str, ...] = ("cuda", "cpu", "mps")
    capability: tuple[int, int] = (0, 0)
    dtype: str | None = None
    padding: int = 1

    def stored_bytes(self, layer: nn.Linear) -> int:
        """Of the weights of a layer that it holds."""
        width = -(-layer.in_features // self.padding) * self.padding
        return round(width * layer.out_features * self.bits / 8)


def _int8() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig(set_inductor_config=False)


def _fp8() -> Any:
    from torchao.quantization import Float8WeightOnlyConfig

    return Float8WeightOnlyConfig(set_inductor_config=False)


def _int4() -> Any:
    from torchao.quantization import Int4WeightOnlyConfig

    # The one layout whose kernel is in torch itself.
    layout: Any = "tile_packed_to_4d"
    return Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format=layout, set_inductor_config=False)


def _nvfp4() -> Any:
    from torchao.prototype.mx_formats import NVFP4DynamicActivationNVFP4WeightConfig

    return NVFP4DynamicActivationNVFP4WeightConfig(use_triton_kernel=False)  # which another package brings


def _fits_int4(layer: nn.Linear) -> bool:
    """Whole groups, and with the padding no larger than in int8."""
    width = layer.in_features
    return width % GROUP == 0 and -(-width // PADDED) * PADDED <= 2 * width


def _fits_nvfp4(layer: nn.Linear) -> bool:
    return layer.in_features % BLOCK == 0 and layer.out_features % BLOCK == 0


KINDS = {
    "int8": Kind(_int8, 8),
    "fp8": Kind(_fp8, 8, devices=("cuda", "cpu")),
    "int4": Kind(_int4, 4.5, _fits_int4, ("cuda",), (8, 0), "bfloat16", PADDED),
    "nvfp4": Kind(_nvfp4, 4.5, _fits_nvfp4, ("cuda",), (10, 0), "bfloat16"),
}


@dataclass(frozen=True)
class Quantization:
    """The kinds, as in `KINDS`, of a model's parts; None for full precision.

    Attributes:
        network: of the network that predicts.
        text_encoders: of all text encoders.
    """

    network: str | None = None
    text_encoders: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The settings that are not null, with their values."""
        both = {"quantization": self.network, "text_encoder_quantization": self.text_encoders}
        return {name: kind for name, kind in both.items() if kind is not None}

    def dtype(self, asked: str, device: torch.device) -> str:
        """The name of the precision to load in, given the one that was asked for, which may be `auto`.

        Raises:
            ConfigError: torchao is missing, or the device or the precision does not have one of the kinds.
        """
        for name, kind in self.settings.items():
            asked = _checked(f"model.{name}", kind, asked, device)
        return asked

    def apply(self, networks: Mapping[str, nn.Module], device: torch.device) -> None:
        """Replace the weights of a model's networks.

        Args:
            networks: by part.
            device: where each layer is quantised; the networks are on it afterwards.

        Raises:
            ConfigError: a network was quantised before, in its folder.
        """
        for part, network in networks.items():
            kind = self.kind_of(part)
            if kind is None:
                continue
            if getattr(network, "hf_quantizer", None) is not None:
                name = "text_encoder_quantization" if part.startswith("text_encoder") else "quantization"
                raise ConfigError(f"the model's {part} is quantised as it is in its folder; set model.{name} to null")
            quantise(network, kind, device)

    def kind_of(self, part: str) -> Kind | None:
        """That of a part, by its name; None for full precision, in which autoencoders always are."""
        name = self.text_encoders if part.startswith("text_encoder") else None if part == "vae" else self.network
        return None if name is None else KINDS[name]


def _checked(setting: str, kind: str, dtype: str, device: torch.device) -> str:
    if kind not in KINDS:
        raise ConfigError(f"{setting} is {kind!r}; expected {', '.join(KINDS)}, or none at all")
    needs = KINDS[kind]
    try:
        import torchao  # noqa: F401
    except ImportError:
        raise ConfigError(
            f'{setting} needs torchao; install it with: pip install "tokenflow[quantization]", or set it to null'
        ) from None
    on_gpu = device.type == "cuda"
    found = torch.cuda.get_device_capability(device) if on_gpu else (0, 0)
    if device.type not in needs.devices or (on_gpu and found < needs.capability):
        least, has = ("{}.{}".format(*each) for each in (needs.capability, found))
        wanted = f"a CUDA device of compute capability {least} or higher" if any(needs.capability) else "CUDA or a CPU"
        got = f"{device} of {has}" if on_gpu else device.type
        raise ConfigError(f"{setting} {kind} needs {wanted}, got {got}; set it to int8, or to null")
    if needs.dtype is not None and dtype not in ("auto", needs.dtype):
        raise ConfigError(f"{setting} {kind} needs model.dtype {needs.dtype}, got {dtype}; set it so, or to auto")
    return needs.dtype or dtype


def quantise(network: nn.Module, kind: Kind, device: torch.device | None = None) -> None:
    """Replace the weights of a network's `quantised_layers`, and move it layer by layer to a device if one is given."""
    from torchao.quantization import quantize_

    names = quantised_layers(network, kind)
    quantize_(network, kind.config(), lambda _, name: name in names, device=device)


def quantised_layers(network: nn.Module, kind: Kind) -> list[str]:
    """The names of the linear layers whose weights are replaced: those in the network's blocks.

    Everything outside of the blocks stays in full precision: embedders of time, text and latents and the last
    projection, whose errors reach every token, and the head of a language model, which shares its weights with the
    embedding of tokens. They are few: 1 % of FLUX.1. So do projections of the time in UNets, and layers whose width a
    kind cannot hold. Norms have no linear layers, but for the modulations in the blocks of FLUX.1: these are replaced,
    since they are a quarter of its weights.
    """
    blocks = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, nn.ModuleList))
    return [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith(blocks) and not name.endswith(OF_TIME) and kind.fits(layer)
    ]


def quantised_bytes(network: nn.Module, kind: Kind) -> int:
    """Bytes of the weights and buffers of a network in full precision, once they are quantised; by shapes."""
    layers: list[Any] = [network.get_submodule(name) for name in quantised_layers(network, kind)]
    return weight_bytes([network]) + sum(kind.stored_bytes(layer) - layer.weight.nbytes for layer in layers)


def stored_tensors(weight: Any) -> list[Any]:
    """The plain tensors that a weight consists of: itself, or the numbers and scales of a quantised one."""
    if not is_traceable_wrapper_subclass(weight):
        return [weight]
    names, _ = weight.__tensor_flatten__()
    return [part for name in names for part in stored_tensors(getattr(weight, name))]


def weight_bytes(networks: Iterable[nn.Module]) -> int:
    """Bytes of the weights and buffers of networks, wherever they are."""
    weights = {id(weight): weight for network in networks for weight in (*network.parameters(), *network.buffers())}
    return sum(part.nbytes for weight in weights.values() for part in stored_tensors(weight))
