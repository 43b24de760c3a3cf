"""The one context manager that patches a network: attention processors, forward hooks, and forwards of modules."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from torch import nn

Hook = Callable[[Any, Any, Any], Any]

Forward = Callable[..., Any]
"""What a module does with its input: its `forward`."""


@contextmanager
def patched(
    processors: Mapping[Any, Any],
    hooks: Mapping[nn.Module, Hook] = MappingProxyType({}),
    forwards: Mapping[nn.Module, Forward] = MappingProxyType({}),
) -> Iterator[None]:
    """Replace attention processors and forwards, and add hooks, until the context ends.

    Afterwards, and after an exception, processors are the same objects as before and hooks and forwards are gone.

    Args:
        processors: by diffusers attention module.
        hooks: forward hooks by module.
        forwards: called in place of a module's `forward`.
    """
    processors_before = {layer: layer.processor for layer in processors}
    forwards_before = {module: vars(module).get("forward") for module in forwards}  # another tool may have set one
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        _set_processors(processors)
        _set_forwards(forwards)
        yield
    finally:
        _set_forwards(forwards_before)
        _set_processors(processors_before)
        for handle in handles:
            handle.remove()


def _set_processors(processors: Mapping[Any, Any]) -> None:
    for layer, processor in processors.items():
        layer.set_processor(processor)


def _set_forwards(forwards: Mapping[nn.Module, Forward | None]) -> None:
    """Set each module's own `forward`; None restores its class's."""
    for module, forward in forwards.items():
        vars(module).pop("forward", None)
        if forward is not None:
            vars(module)["forward"] = forward
