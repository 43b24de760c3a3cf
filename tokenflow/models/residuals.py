"""What ControlNets add to a network, and the sum of several."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from tokenflow.errors import ModelError


class UNetResiduals(NamedTuple):
    """What is added to a UNet, (b f) d h w each; nothing where a tuple is empty or the middle is None.

    Attributes:
        skips: to the skip connections.
        middle: to the middle block's output.
        features: to the encoder's features behind each of its blocks, as T2I-Adapters do.
    """

    skips: tuple[Tensor, ...] = ()
    middle: Tensor | None = None
    features: tuple[Tensor, ...] = ()


def added(first: Any, second: Any) -> Any:
    """The sum of two residuals of one family, place by place; None and empty tuples are nothing.

    Raises:
        ModelError: they are for different layers.
    """
    if first is None or (isinstance(first, tuple) and not first):
        return second
    if second is None or (isinstance(second, tuple) and not second):
        return first
    if isinstance(first, Tensor):
        return first + second
    if isinstance(first, bool) and first == second:
        return first
    if isinstance(first, Mapping):
        return {name: added(first[name], second[name]) for name in first}
    if isinstance(first, bool) or len(first) != len(second):
        raise ModelError("these ControlNets add to different layers of the model; use one of them alone")
    sums = [added(one, other) for one, other in zip(first, second, strict=True)]
    return type(first)(*sums) if isinstance(first, UNetResiduals) else tuple(sums)
