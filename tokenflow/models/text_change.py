"""What another text would change in a network's cross-attention, place by place.

How strongly a place attends to a word says little where a causal text encoder spreads the word over the tokens after
it. How much its attention output would change has no such trouble.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6


class TextChange:
    """A diffusers attention processor that measures what another text would change, and leaves attention as it is.

    Args:
        grids: the layers of cross-attention that are read, each with the rows and columns of its tokens.
        size: height and width of the latents.
        attention: diffusers' own processor for these layers.
        other: states of the other text as the layers take them, 1 n c.
        mask: its attention mask as a bias, 1 1 n; None for none.
    """

    def __init__(
        self,
        grids: Mapping[nn.Module, tuple[int, int]],
        size: tuple[int, int],
        attention: Any,
        other: Tensor,
        mask: Tensor | None = None,
    ) -> None:
        self._grids = grids
        self._size = size
        self._attention = attention
        self._other = other
        self._mask = mask
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
    ) -> Tensor:
        """The layer's output under the text of the call, f n c."""
        frames = len(hidden_states)
        other = self._other.to(hidden_states).expand(frames, -1, -1)
        mask = None if self._mask is None else self._mask.to(hidden_states).expand(frames, -1, -1)
        output = self._attention(attn, hidden_states, encoder_hidden_states, attention_mask)
        changed = output.float() - self._attention(attn, hidden_states, other, mask).float()
        share = changed.norm(dim=-1) / output.float().norm(dim=-1).clamp_min(EPSILON)  # f n
        maps = share.unflatten(1, self._grids[attn])[:, None]  # f 1 rows columns
        self._changes.append(F.interpolate(maps, self._size, mode="bicubic", antialias=False)[:, 0])
        return output
