"""The regions of a clip: where latents and pixels are the edit's, and which prompt holds where."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.regions.masks import cover


@dataclass(frozen=True, eq=False)
class LatentRegions:
    """The regions of a clip on the grid of its latents.

    Attributes:
        inside: f 1 h w, 1 for every latent that a region touches, and 0 elsewhere.
        shares: p f 1 h w: how much of each latent every prompt has; they add up to 1.
    """

    inside: Tensor
    shares: Tensor

    def shares_of(self, indices: Sequence[int]) -> Tensor:
        """How much of each latent of some frames every prompt has, p g 1 h w."""
        return self.shares[:, list(indices)]

    def composed(self, source_at: Callable[[Level], Latents]) -> Callable[[list[int], Tensor, Level], Tensor]:
        """A `Compose` that puts the source's latents back outside of the regions, after every step."""

        def compose(indices: list[int], latents: Tensor, level: Level) -> Tensor:
            inside = self.inside[indices].to(latents)  # g 1 h w
            return inside * latents + (1 - inside) * source_at(level)[indices].to(latents)

        return compose


def union(alphas: Sequence[np.ndarray]) -> np.ndarray:
    """The regions of one frame together, H W in [0, 1]."""
    return np.maximum.reduce(list(alphas))


def on_latents(frames: Iterable[Sequence[np.ndarray]], prompts: Sequence[int], size: tuple[int, int]) -> LatentRegions:
    """Regions on the grid of latents.

    Args:
        frames: of each frame, the mask H W in [0, 1] of each region.
        prompts: which prompt each region has, from 0.
        size: height and width of the latents.
    """
    inside, shares = [], []
    for alphas in frames:
        inside.append(cover(union(alphas), *size))
        shares.append(_prompt_shares(alphas, prompts, size))
    return LatentRegions(torch.stack(inside), torch.stack(shares, dim=1))


def _prompt_shares(alphas: Sequence[np.ndarray], prompts: Sequence[int], size: tuple[int, int]) -> Tensor:
    """How much of each latent of a frame every prompt has, p 1 h w.

    Where regions overlap, the later one covers the earlier. Outside of all of them the first prompt holds.
    """
    shares = torch.zeros(max(prompts) + 1, 1, *size)
    left = torch.ones(1, *size)
    for alpha, prompt in reversed(list(zip(alphas, prompts, strict=True))):
        taken = left * F.adaptive_avg_pool2d(torch.from_numpy(alpha)[None], size)  # 1 h w
        shares[prompt] += taken
        left = left - taken
    shares[0] += left
    return shares
