"""Extended attention: keyframes that go through the network together attend to each other (Geyer et al., 2024, 4.1)."""

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor

from tokenflow.models.attention import AttentionCall, AttentionOverride, Site, per_frame_attention, project_qkv
from tokenflow.models.injection import Injection
from tokenflow.propagation.feature_bank import FeatureBank
from tokenflow.propagation.references import ReferenceFeatures

Levels = Literal["coarse", "all"]
"""Levels of the network at which keyframes attend to each other: all, as in the paper, or all but the finest, which
dominates the cost (quadratic in its tokens) and changes no metric (docs/speed.md)."""


def extended_sites(levels: Levels, sites: Sequence[Site]) -> frozenset[str]:
    """The names of the sites where keyframes attend to each other; all of them if the network has only one level."""
    finest = min(site.scale for site in sites)
    coarser = frozenset(site.name for site in sites if site.scale > finest)
    return coarser if levels == "coarse" and coarser else frozenset(site.name for site in sites)


def extended_attention(
    injection: Injection,
    frames: int,
    context: FeatureBank,
    extended: Collection[str],
    outputs: dict[str, Tensor],
    memories: dict[str, Tensor],
    references: ReferenceFeatures | None = None,
) -> AttentionOverride:
    """At extended sites, every frame attends to all frames and to the context; elsewhere to itself.

    At all sites, every frame attends to the references.

    Args:
        injection: the mode's queries and keys.
        frames: how many frames the call has.
        context: the memories of earlier keyframes.
        extended: names of extended sites.
        outputs: filled with the features of all sites, b k n c.
        memories: filled with the memories of extended sites, b k … each.
        references: what else is attended to.
    """
    alone = per_frame_attention(injection) if references is None else references.within_frames(injection)

    def together(call: AttentionCall) -> Tensor:
        queries, keys, values = project_qkv(call, injection)  # (b f) n c each
        if references is not None:
            queries, keys = references.restyled(call.site.name, queries, keys)
        joined: list[Tensor] = []
        for number, own in enumerate(call.memory(keys, values)):
            name = f"memory {number} of {call.site.name}"
            split = own.unflatten(0, (-1, frames))  # b f …
            memories[name] = split
            joined.append(torch.cat([context.tensors[name], split], 1) if context.keyframes else split)
        # All queries of a branch as one sequence: they share the memory, which need not be repeated per frame.
        seen = (tuple(joined), None) if references is None else references.joined(call.site.name, tuple(joined))
        output = call.attend(queries.unflatten(0, (-1, frames)).flatten(1, 2), *seen)  # b (f n) c
        return output.unflatten(1, (frames, -1)).flatten(0, 1)  # (b f) n c

    def attend(call: AttentionCall) -> Tensor:
        output = (together if call.site.name in extended else alone)(call)
        outputs[call.site.name] = output.unflatten(0, (-1, frames))
        return output

    return attend
