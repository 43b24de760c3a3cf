"""Where a model works and in which precision: devices, dtypes, offloading, and weights at aligned addresses."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tokenflow.errors import ConfigError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

ALIGNMENT = 64
"""Bytes to which torch aligns its own tensors on a CPU."""


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: torch does not know the name, or the device is missing.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"model.device is {name!r}, which this machine does not have ({str(error).splitlines()[0]}); "
            "expected auto, cpu, cuda, cuda:N or mps"
        ) from error
    return device


@dataclass(frozen=True)
class Precision:
    """The precision that a model is loaded in.

    Attributes:
        dtype: of its networks, unless the family knows better.
        is_automatic: whether it was left to the machine, so that a family may prefer another half precision.
    """

    dtype: torch.dtype
    is_automatic: bool

    @property
    def is_automatic_half(self) -> bool:
        """Whether it is half precision, float16 or bfloat16 as suits the family."""
        return self.is_automatic and self.dtype == torch.float16

    def __str__(self) -> str:
        return "half precision" if self.is_automatic_half else str(self.dtype).removeprefix("torch.")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of that name; `auto` takes float16 on CUDA, bfloat16 on a CPU that multiplies in it, else float32.

    On CUDA float16 has more digits than bfloat16, older cards multiply in it, and published checkpoints use it.

    Raises:
        ConfigError: there is no such precision.
    """
    if name == "auto" and device.type == "cuda":
        return torch.float16
    if name == "auto":
        return torch.bfloat16 if device.type == "cpu" and _multiplies_in_bfloat16() else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"model.dtype is {name!r}; expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _multiplies_in_bfloat16() -> bool:
    """Whether this CPU has instructions for it; without them bfloat16 is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def prepare(network: nn.Module) -> None:
    """Set a network to inference, with its weights where torch itself would allocate them.

    Matrix products round differently on unaligned memory, and the address of a file's tensors differs from one load to
    the next: the same edit would not give the same pixels again.
    """
    network.eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.data_ptr() % ALIGNMENT:
            parameter.data = parameter.data.clone()


class Offloading:
    """Brings the part of a model that is about to work to the device; with `enabled`, the others to main memory."""

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self._device = device
        self._enabled = enabled
        self._at_work: nn.Module | None = None

    def __call__(self, network: Any) -> Any:
        """The network, on the device."""
        if self._enabled and network is not self._at_work:
            if self._at_work is not None:
                self._at_work.to("cpu")
            self._at_work = network.to(self._device)
        return network
