"""Extended attention: keyframes that go through the network together see each other (Geyer et al., ICLR 2024, 4.1).

Knows sites and their tokens. Knows no model, no mode and no frames between keyframes.
"""

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor

from tokenflow.models.attention import AttentionOverride, Injection, SelfAttention, Site, per_frame_attention, project
from tokenflow.propagation.feature_bank import FeatureBank

Levels = Literal["coarse", "all"]
"""At which levels of the network keyframes see each other: at all, as in the paper, or at all but the finest. There it
costs most by far, as the square of the tokens, and changes no figure (docs/speed.md)."""


def extended_sites(levels: Levels, sites: Sequence[Site]) -> frozenset[str]:
    """The names of a network's sites where keyframes see each other; all, if the finest level is the only one."""
    finest = min(site.scale for site in sites)
    coarser = frozenset(site.name for site in sites if site.scale > finest)
    return coarser if levels == "coarse" and coarser else frozenset(site.name for site in sites)


def extended_attention(
    injection: Injection,
    frames: int,
    context: FeatureBank,
    extended: Collection[str],
    outputs: dict[str, Tensor],
    keys_values: dict[str, Tensor],
) -> AttentionOverride:
    """Every frame's queries attend to the keys and values of all frames and of the context; to its own elsewhere.

    Put where they are asked for: the outputs of all sites, and the keys and values of the extended; b k n c each.
    """
    alone = per_frame_attention(injection)

    def together(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        queries, *own = (part.unflatten(0, (-1, frames)) for part in project(site, layer, tokens, injection))
        seen = []
        for name, part in zip((f"keys of {site.name}", f"values of {site.name}"), own, strict=True):
            keys_values[name] = part
            seen.append(torch.cat([context.tensors[name], part], 1) if context.keyframes else part)
        # All frames as one sequence: the same keys for every query, without repeating them.
        output = layer.attend(*(part.flatten(1, 2) for part in (queries, *seen)))
        return output.unflatten(1, (frames, -1)).flatten(0, 1)

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        output = (together if site.name in extended else alone)(site, layer, tokens)
        outputs[site.name] = output.unflatten(0, (-1, frames))
        return output

    return attend
