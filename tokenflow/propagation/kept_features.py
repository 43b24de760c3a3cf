"""The attention features of keyframes that are kept for the frames between, and the memory that they take."""

import math
from collections.abc import Collection

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
