"""What a mode adds to one network call: features captured from the source, and a ControlNet's residuals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

QueriesKeys = tuple[Tensor, Tensor]
"""Queries and keys of the image tokens at one attention site, f n c each."""

ATTENTION = "attention"
"""The injection point that stands for queries and keys; all other points are features."""

BLOCK, RESIDUAL = "block", "residual"
"""The output of the block where the source's layout is injected, and what that block adds to its input."""


@dataclass(frozen=True)
class Injection:
    """What a mode adds to one network call. Empty, it changes nothing.

    Attributes:
        queries_keys: by site, the queries and keys to use in place of the call's own, in every branch.
        features: by injection point, the output (f d h w) there in place of the network's own, in every branch.
        residuals: what a ControlNet of the same family adds to the network; opaque to everyone else.
        sources: clean latents f c h w of the image that each frame is an edit of, for models that are shown it.
        surroundings: what is around the part of each frame that is painted, for models that paint into images: f (1 +
            c) h w (models/inpainting.py); None to paint everything.
    """

    queries_keys: Mapping[str, QueriesKeys] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    residuals: Any = None
    sources: Tensor | None = None
    surroundings: Tensor | None = None


EMPTY = Injection()


def repeated_pair(pair: QueriesKeys, like: Tensor) -> QueriesKeys:
    """Queries and keys (f n c each) in the precision of another tensor and for its branches: (b f) n c each."""
    queries, keys = (repeat_branches(each.to(like), like) for each in pair)
    return queries, keys


def repeat_branches(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor over frames (f …) repeated for the branches of another's first axis (b f …)."""
    branches = like.shape[0] // tensor.shape[0]
    return tensor if branches == 1 else tensor.repeat(branches, *[1] * (tensor.ndim - 1))
