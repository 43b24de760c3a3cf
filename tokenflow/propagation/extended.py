"""Extended attention: keyframes that go through the network together see each other (Geyer et al., ICLR 2024, 4.1).

Knows sites and their tokens, and what keyframes see of each other. Knows no model, no mode and no frames between.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.attention import Injection, SelfAttention, Site, Strategy, project
from tokenflow.propagation.kept import Kept

Extent = Literal["coarse", "full"]
"""Of each other's tokens, keyframes see all (`full`, as in the paper); or (`coarse`) means of two by two, and none at
the finest level, where attention costs most by far and to see others' tokens changes no figure (docs/speed.md)."""

View = Callable[[Site, Tensor], Tensor]
"""What others see of keyframes' keys or values b k n c at a site: b k m c, with m from none to n."""

CELL = 2
"""How many tokens of a row or column one mean stands for."""


def view(extent: Extent, sites: Sequence[Site], size: tuple[int, int]) -> View:
    """The view of an extent, for a network's sites and latents of a size (h, w)."""
    finest = min(site.scale for site in sites)

    def coarse(site: Site, tokens: Tensor) -> Tensor:
        if site.scale == finest:
            return tokens[:, :, :0]
        grid = site.grid(*size)
        maps = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
        means = F.adaptive_avg_pool2d(maps, (-(-grid[0] // CELL), -(-grid[1] // CELL)))
        return means.flatten(2).transpose(1, 2).unflatten(0, tokens.shape[:2])

    return coarse if extent == "coarse" else lambda _site, tokens: tokens


def extended_attention(
    injection: Injection,
    frames: int,
    context: Kept,
    shown: View,
    outputs: dict[str, Tensor],
    keys_values: dict[str, Tensor],
) -> Strategy:
    """Every frame's queries attend to its own tokens, and to what is shown of all other frames' and of the context's.

    Put where they are asked for: outputs, b k n c, and the keys and values that are shown, b k m c.
    """

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        queries, *own = (part.unflatten(0, (-1, frames)) for part in project(site, layer, tokens, injection))
        names = f"keys of {site.name}", f"values of {site.name}"
        kept = {name: shown(site, part) for name, part in zip(names, own, strict=True)}
        keys_values.update(kept)
        seen = [
            torch.cat([context.tensors[name], kept[name]], 1) if context.keyframes else kept[name] for name in names
        ]
        outputs[site.name] = _attend(layer, queries, own, seen)
        return outputs[site.name].flatten(0, 1)

    return attend


def _attend(layer: SelfAttention, queries: Tensor, own: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
    """The output b k n c, of keyframes' own keys and values and what is seen of all: b t m c, these k the last."""
    count, tokens, shown = queries.shape[1], own[0].shape[2], seen[0].shape[2]
    if shown == tokens:  # all frames as one sequence: the same keys for every query, without repeating them
        return layer.attend(*(part.flatten(1, 2) for part in (queries, *seen))).unflatten(1, (count, -1))
    total = seen[0].shape[1]
    others = [[place for place in range(total) if place != total - count + keyframe] for keyframe in range(count)]
    chosen = torch.tensor(others, dtype=torch.long, device=queries.device)
    keys, values = (
        torch.cat([mine, part[:, chosen].flatten(2, 3)], 2).flatten(0, 1) for mine, part in zip(own, seen, strict=True)
    )
    bias = None
    if shown:  # a mean counts as often as the tokens that it stands for
        bias = queries.new_zeros(keys.shape[1])
        bias[tokens:] = math.log(tokens / shown)
    return layer.attend(queries.flatten(0, 1), keys, values, bias).unflatten(0, (-1, count))
