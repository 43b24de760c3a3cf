"""What another text would change in a UNet's cross-attention, place by place.

How strongly a place attends to a word says little where a causal text encoder spreads the word over the tokens after
it. How much its attention output would change has no such trouble.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

from tokenflow.models.attention import Site

FINEST_LEVELS = 2
"""How many of the network's levels are read, the finest ones: coarser ones do not tell places apart."""

EPSILON = 1e-6


class TextChange:
    """A diffusers attention processor that measures what another text would change, and leaves attention as it is.

    Args:
        unet: the network.
        sites: its sites of self-attention, each with a layer of cross-attention beside it.
        size: height and width of the latents.
        other: states of the other text, 1 n c.
    """

    def __init__(self, unet: nn.Module, sites: Sequence[Site], size: tuple[int, int], other: Tensor) -> None:
        scales = sorted({site.scale for site in sites})[:FINEST_LEVELS]
        self._grids = {
            unet.get_submodule(f"{site.name.removesuffix('attn1')}attn2"): site.grid(*size)
            for site in sites
            if site.scale in scales
        }
        self._size = size
        self._other = other
        self._attention = AttnProcessor2_0()
        self._changes: list[Tensor] = []

    @property
    def processors(self) -> dict[nn.Module, "TextChange"]:
        """This, for each layer that is read."""
        return dict.fromkeys(self._grids, self)

    @property
    def change(self) -> Tensor:
        """‖o − o′‖ / ‖o‖ of the outputs o and, under the other text, o′: the mean over all layers, f h w."""
        return torch.stack(self._changes).mean(0)

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The layer's output under the text of the call, f n c."""
        other = self._other.to(hidden_states).expand(len(hidden_states), -1, -1)
        output = self._attention(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        changed = output.float() - self._attention(attn, hidden_states, other, attention_mask, temb).float()
        share = changed.norm(dim=-1) / output.float().norm(dim=-1).clamp_min(EPSILON)  # f n
        maps = share.unflatten(1, self._grids[attn])[:, None]  # f 1 rows columns
        self._changes.append(F.interpolate(maps, self._size, mode="bicubic", antialias=False)[:, 0])
        return output
