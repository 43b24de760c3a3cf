"""Self-attention in a network: its sites, what may happen there, and the one context manager that patches a network.

Knows diffusers' attention module and nothing of layers' names: a model says where its sites are. Propagation
and modes bring an `AttentionOverride`, a function called in place of the self-attention of each site.

Shapes: tokens are (b f) n c, with b branches outermost; queries, keys and values the same, heads not yet split.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Site:
    """A place of self-attention in a network.

    Attributes:
        name: the network's own name of it.
        scale: how many latents a token spans along each side; its grid is ⌈h/scale⌉ × ⌈w/scale⌉.
    """

    name: str
    scale: int

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of this site's token grid, for latents of `height` × `width`."""
        return -(-height // self.scale), -(-width // self.scale)


class SelfAttention:
    """The parts of a site's self-attention, to be called one by one.

    Wraps a diffusers `Attention`. The tokens it is given are the output of the block's norm, and what `attend`
    returns is the residual branch: TokenFlow's features and attention output (Geyer et al., ICLR 2024, section 4).
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer: Any = layer

    def queries(self, tokens: Tensor) -> Tensor:
        """Queries (m n c) of tokens (m n c)."""
        return self._layer.to_q(tokens)

    def keys(self, tokens: Tensor) -> Tensor:
        """Keys (m n c) of tokens (m n c)."""
        return self._layer.to_k(tokens)

    def values(self, tokens: Tensor) -> Tensor:
        """Values (m n c) of tokens (m n c)."""
        return self._layer.to_v(tokens)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of queries (m n c) over keys and values (m n' c), through the output projection: m n c."""
        heads = self._layer.heads
        split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (queries, keys, values)]
        attended = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        projection, dropout = self._layer.to_out
        return dropout(projection(attended))


AttentionOverride = Callable[[Site, SelfAttention, Tensor], Tensor]
"""What stands in for self-attention: (site, its parts, tokens m n c) -> attention output m n c."""

QueriesKeys = tuple[Tensor, Tensor]

Features = Literal["block", "residual"]
"""Places in a network whose output can be injected: of its injected residual block, all that leaves it, or only what it
adds to its shortcut."""


@dataclass(frozen=True)
class Injection:
    """What a mode adds to one network call. Empty, it changes nothing.

    Attributes:
        queries_keys: by site, the queries and keys (f n c) to use instead of the call's own, in every branch.
        features: by place, the output (f d h w) there instead of the network's own, in every branch.
        control: residuals added to the network's skip connections, as a ControlNet gives them, and to its middle.
    """

    queries_keys: Mapping[str, QueriesKeys] = field(default_factory=dict)
    features: Mapping[Features, Tensor] = field(default_factory=dict)
    control: tuple[tuple[Tensor, ...], Tensor] | None = None


NOTHING = Injection()


def repeat_branches(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor over frames (f …) repeated for the branches of another's first axis (b f …)."""
    branches = like.shape[0] // tensor.shape[0]
    return tensor if branches == 1 else tensor.repeat(branches, *[1] * (tensor.ndim - 1))


def project(
    site: Site, layer: SelfAttention, tokens: Tensor, injection: Injection = NOTHING
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ((b f) n c each) at a site, the first two injected where there are any."""
    injected = injection.queries_keys.get(site.name)
    if injected is None:
        return layer.queries(tokens), layer.keys(tokens), layer.values(tokens)
    queries, keys = (repeat_branches(part.to(tokens), tokens) for part in injected)
    return queries, keys, layer.values(tokens)


def per_frame_attention(injection: Injection = NOTHING) -> AttentionOverride:
    """Ordinary self-attention, every frame to itself, with injected queries and keys."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        return layer.attend(*project(site, layer, tokens, injection))

    return attend


class _Processor:
    """A strategy in the form of a diffusers attention processor."""

    def __init__(self, site: Site, strategy: AttentionOverride) -> None:
        self._site = site
        self._strategy = strategy

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        return self._strategy(self._site, SelfAttention(attn), hidden_states)


Hook = Callable[[Any, Any, Any], Any]

Forward = Callable[..., Any]
"""What a module does with its input: its `forward`."""


@contextmanager
def override_attention(
    network: Any,
    sites: tuple[Site, ...],
    strategy: AttentionOverride | None,
    hooks: Mapping[nn.Module, Hook] = MappingProxyType({}),
    forward_overrides: Mapping[nn.Module, Forward] = MappingProxyType({}),
) -> Iterator[None]:
    """Put a strategy at the sites of a network, hooks on its modules and stand-ins for some, while the context lasts.

    Afterwards, and after an exception, the network's processors are the objects they were, hooks and stand-ins gone.

    Args:
        network: a diffusers model.
        sites: where the strategy stands in for self-attention.
        strategy: None leaves every processor in place.
        hooks: forward hooks by module.
        forward_overrides: what is called instead of some modules' `forward`.
    """
    processors: dict[Any, Any] = {}
    if strategy is not None:
        processors = {network.get_submodule(site.name): _Processor(site, strategy) for site in sites}
    processors_before = {layer: layer.processor for layer in processors}
    forwards_before = {
        module: vars(module).get("forward") for module in forward_overrides
    }  # where another tool set one
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        _set_processors(processors)
        _set_forwards(forward_overrides)
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
    """Each module's own `forward`, or with None its class's."""
    for module, forward in forwards.items():
        vars(module).pop("forward", None)
        if forward is not None:
            vars(module)["forward"] = forward
