"""What is kept of keyframes' attention for the frames between and for later keyframes, and its memory."""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from tokenflow.models.attention import Site


class KeptFeatures(dict[str, Tensor]):
    """Attention features by site, b k n c: only what frames read of them, and where it is to rest.

    Args:
        sites: names of the sites that are kept; None for all.
        branches: how many are read, the last ones.
        device: where they rest; None for where they were computed.
    """

    def __init__(self, sites: Collection[str] | None, branches: int, device: torch.device | None) -> None:
        super().__init__()
        self._sites = sites
        self._branches = branches
        self._device = device

    def __setitem__(self, site: str, features: Tensor) -> None:
        """Keep the features of a site if they are read; a copy, so that branches that are not can be freed."""
        if self._sites is None or site in self._sites:
            read = features[-self._branches :]
            is_part = len(read) < len(features)
            super().__setitem__(site, read.to(self._device or read.device, copy=is_part))


class KeptMemories(dict[str, Tensor]):
    """Memories of attention by name, b k …: only those of keyframes that later windows attend to.

    Args:
        positions: of these among the keyframes of a pass; empty to keep nothing.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__()
        self._positions = list(positions)

    def __setitem__(self, name: str, memory: Tensor) -> None:
        """Keep a copy of the part that is attended to later, so that the rest can be freed."""
        if self._positions:
            super().__setitem__(name, memory[:, self._positions])


def feature_bytes(
    sites: Collection[Site],
    size: tuple[int, int],
    *,
    text_tokens: int,
    images: int,
    keyframes: int,
    branches: int,
    element_bytes: int,
) -> int:
    """Memory that kept features take: branches · keyframes · bytes · Σ tokens · width, the sum over all sites.

    Args:
        sites: those that are kept.
        size: height and width of the latents.
        text_tokens: of a frame, beside its image tokens.
        images: 2 if frames are shown an image of their own, else 1.
        keyframes: how many are kept at once.
        branches: how many are read.
        element_bytes: of a number.
    """
    numbers = sum((text_tokens + images * math.prod(site.grid(*size))) * site.width for site in sites)
    return branches * keyframes * numbers * element_bytes
