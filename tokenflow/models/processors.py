"""Attention overrides in the form in which diffusers calls them: as attention processors."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from tokenflow.models.attention import AttentionCall, AttentionOverride, Site

Wrap = Callable[[Site, Any, Tensor], AttentionCall]
"""(site, diffusers' attention module, tokens (b f) n c that enter it) -> the call."""


class OverrideProcessor:
    """An attention override in the form of a diffusers attention processor."""

    def __init__(self, site: Site, wrap: Wrap, override: AttentionOverride) -> None:
        self._site = site
        self._wrap = wrap
        self._override = override

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The override's features for one call."""
        call = self._wrap(self._site, attn, hidden_states)
        return call.finish(self._override(call))


def attention_processors(
    network: nn.Module, sites: Sequence[Site], wrap: Wrap, override: AttentionOverride | None
) -> dict[nn.Module, OverrideProcessor]:
    """A processor for each site's module; none without an override."""
    if override is None:
        return {}
    return {network.get_submodule(site.name): OverrideProcessor(site, wrap, override) for site in sites}
