"""Sana's linear self-attention (Xie et al., ICLR 2025): a frame's memory is one small matrix per head.

With φ = relu and v̂ = [v; 1], the state of a set of tokens is S = Σⱼ v̂ⱼ φ(kⱼ)ᵀ, and a query's feature is what S φ(q)
holds for v, divided by what it holds for 1. States of several frames add, so attention to any number of frames costs
what attention to one does.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.models.attention import Memory, Site
from tokenflow.models.injection import QueriesKeys, repeated_pair

EPSILON = 1e-15
"""Added to the denominator, as in diffusers."""

HALF_MAX = torch.finfo(torch.float16).max


class LinearAttention:
    """One self-attention call of a Sana transformer: an `AttentionCall` over diffusers' `Attention`.

    Args:
        site: where it is.
        layer: the attention module. Its linears are called as modules, so LoRA and quantised layers work.
        tokens: (b f) n c, normalised and modulated by the time.
    """

    text_tokens = 0

    def __init__(self, site: Site, layer: Any, tokens: Tensor) -> None:
        self.site = site
        self.tokens = tokens
        self._layer = layer

    def queries_keys(self, injected: QueriesKeys | None = None) -> tuple[Tensor, Tensor]:
        """Queries and keys of all tokens, (b f) n c each, normalised where the network does it, before relu."""
        if injected is not None:
            return repeated_pair(injected, self.tokens)
        return self._queries(self.tokens), self._keys(self.tokens)

    def values(self) -> Tensor:
        """Values of all tokens, (b f) n c."""
        return self._layer.to_v(self.tokens)

    def project_part(self, frames: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries g l c of tokens (g l) in frames (g), and keys and values g n c of these frames."""
        own = self.tokens[frames]  # g n c
        asking = own[torch.arange(len(own), device=own.device)[:, None], indices]  # g l c
        return self._queries(asking), self._keys(own), self._layer.to_v(own)

    def memory(self, keys: Tensor, values: Tensor) -> Memory:
        """The state of each frame, … h (d+1) d in float32 for h heads of d channels, of keys and values … n c."""
        k = F.relu(self._by_head(keys)).transpose(-1, -2).float()  # … h n d
        v = F.pad(self._by_head(values).float(), (0, 0, 0, 1), value=1.0)  # … h d+1 n
        return (v @ k,)

    def attend(self, queries: Tensor, memory: Memory, counts: Tensor | None = None) -> Tensor:
        """Linear attention of queries (m n c) to the sum of states (m k h d+1 d), through the out-projection: m n c.
        Each state is multiplied by its frame's count (m k)."""
        (states,) = memory
        if counts is not None:
            states = states * counts.to(states)[:, :, None, None, None]
        read = states.sum(1) @ F.relu(self._by_head(queries)).float()  # m h d+1 n
        heads = read[:, :, :-1] / (read[:, :, -1:] + EPSILON)  # m h d n
        attended = heads.flatten(1, 2).transpose(1, 2).to(self.tokens.dtype)  # m n c
        projection, dropout = self._layer.to_out
        output = dropout(projection(attended))
        return output.clip(-HALF_MAX, HALF_MAX) if output.dtype == torch.float16 else output

    def finish(self, output: Tensor) -> Tensor:
        """The features themselves: the block gates them and adds them to its input."""
        return output

    def _queries(self, tokens: Tensor) -> Tensor:
        projected = self._layer.to_q(tokens)
        return projected if self._layer.norm_q is None else self._layer.norm_q(projected)

    def _keys(self, tokens: Tensor) -> Tensor:
        projected = self._layer.to_k(tokens)
        return projected if self._layer.norm_k is None else self._layer.norm_k(projected)

    def _by_head(self, tokens: Tensor) -> Tensor:
        """Queries, keys or values … n c head by head, channels first: … h d n."""
        return tokens.transpose(-1, -2).unflatten(-2, (self._layer.heads, -1))
