"""Joint self-attention of text and image (Esser et al., ICML 2024), as the blocks of FLUX.1 and FLUX.2 compute it.

A frame's tokens are [text ‖ image ‖ source], the last for models that are shown the image a frame is an edit of. What
other frames need of a frame are the keys and values of all of them, so joined frames are whole frames, each with its
own copy of the text: one copy for k frames would have a k-th of its share of the softmax.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

from tokenflow.models.attention import AttentionCall, AttentionOverride, Memory, Site
from tokenflow.models.injection import QueriesKeys, repeated_pair

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of the rotation of each token, n c/h each."""


@dataclass(frozen=True)
class Beside:
    """What an attention call of a joint transformer has to be told, since its module is not.

    Attributes:
        text_tokens: per frame.
        references: by site, keys and values 1 r c of reference images, to which all queries attend as well.
    """

    text_tokens: int
    references: Mapping[str, Memory] = field(default_factory=dict)


class JointAttention:
    """One call of a single-stream block of FLUX.1, whose attention ends before any out-projection.

    Args:
        site: where it is.
        layer: diffusers' attention module. Its linears are called as modules, so LoRA and quantised layers work.
        beside: what the module is not told.
        rotary: of the tokens of a frame.
        tokens: (b f) n c, normalised and modulated: [text ‖ image ‖ source]; in a double-stream block without the text.
        text: (b f) t c in a double-stream block, normalised and modulated; otherwise None.
    """

    def __init__(
        self, site: Site, layer: Any, beside: Beside, rotary: Rotary, tokens: Tensor, text: Tensor | None = None
    ) -> None:
        self.site = site
        self.tokens = tokens
        self.text_tokens = beside.text_tokens
        self._layer = layer
        self._beside = beside
        self._rotary = rotary
        self._text = text

    def queries_keys(self, injected: QueriesKeys | None = None) -> tuple[Tensor, Tensor]:
        """Queries and keys of all tokens, (b f) n c each, normalised per head and rotated."""
        queries, keys, _ = self._projected
        if injected is None:
            return queries, keys
        start, count = self.text_tokens, injected[0].shape[1]
        given = repeated_pair(injected, self.tokens)
        both = zip((queries, keys), given, strict=True)
        queries, keys = (torch.cat([own[:, :start], new, own[:, start + count :]], 1) for own, new in both)
        return queries, keys

    def values(self) -> Tensor:
        """Values of all tokens, (b f) n c."""
        return self._projected[2]

    def project_part(self, frames: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries g l c of image tokens (g l) in frames (g), and keys and values g n c of these frames."""
        queries, keys, values = self._of_frames(frames)  # g n c each
        rows = torch.arange(len(queries), device=queries.device)[:, None]
        return queries[rows, indices + self.text_tokens], keys, values

    def memory(self, keys: Tensor, values: Tensor) -> Memory:
        """Keys and values themselves (… n c): softmax needs all of them."""
        return keys, values

    def attend(self, queries: Tensor, memory: Memory, counts: Tensor | None = None) -> Tensor:
        """Softmax attention of queries (m n c) over keys and values (m k n' c each), and references: m n c.

        The logarithms of `counts` (m k) are added to the logits of frames.
        """
        joined = [part.flatten(1, 2) for part in memory]  # m k n' c → m (k n') c
        bias = None if counts is None else counts.log().to(queries).repeat_interleave(memory[0].shape[2], dim=1)
        references = self._beside.references.get(self.site.name)
        if references is not None:
            both = zip(joined, references, strict=True)
            joined = [torch.cat([own, shared.to(own).expand(len(own), -1, -1)], 1) for own, shared in both]
            bias = None if bias is None else F.pad(bias, (0, references[0].shape[1]))
        q, k, v = (self._by_head(part).transpose(1, 2) for part in (queries, *joined))  # m h n c/h
        mask = None if bias is None else bias[:, None, None]  # m 1 1 (k n' + r)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def finish(self, output: Tensor) -> Any:
        """The features themselves: the block projects them out together with its feed-forward."""
        return output

    @cached_property
    def _projected(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all tokens, (b f) n c each."""
        layer = self._layer
        return self._rotated(*(self._by_head(project(self.tokens)) for project in (layer.to_q, layer.to_k, layer.to_v)))

    def _of_frames(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of some frames (g), g n c each."""
        text = None if self._text is None else self._text[frames]
        part = type(self)(self.site, self._layer, self._beside, self._rotary, self.tokens[frames], text)
        return part._projected

    def _by_head(self, tokens: Tensor) -> Tensor:
        """Queries, keys or values m n c head by head: m n h c/h."""
        return tokens.unflatten(-1, (-1, self._layer.head_dim))

    def _rotated(self, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the tokens (m n h c/h), normalised and rotated where they are: m n c each."""
        layer = self._layer
        return self._turned(layer.norm_q(queries), layer.norm_k(keys), values)

    def _turned(self, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k = (apply_rotary_emb(each, self._rotary, sequence_dim=1) for each in (queries, keys))
        return q.flatten(2), k.flatten(2), values.flatten(2)


class DoubleStreamAttention(JointAttention):
    """One call of a double-stream block of either FLUX: text and image have weights of their own."""

    def finish(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The image's features and the text's, each through its out-projection."""
        text, image = output[:, : self.text_tokens], output[:, self.text_tokens :]
        projection, dropout = self._layer.to_out
        return dropout(projection(image.contiguous())), self._layer.to_add_out(text.contiguous())

    @cached_property
    def _projected(self) -> tuple[Tensor, Tensor, Tensor]:
        layer, image, text = self._layer, self.tokens, self._text
        q, k, v = (self._by_head(project(image)) for project in (layer.to_q, layer.to_k, layer.to_v))
        added = (layer.add_q_proj, layer.add_k_proj, layer.add_v_proj)
        text_q, text_k, text_v = (self._by_head(project(text)) for project in added)
        queries = torch.cat([layer.norm_added_q(text_q), layer.norm_q(q)], 1)  # m t+n h c/h
        keys = torch.cat([layer.norm_added_k(text_k), layer.norm_k(k)], 1)
        return self._turned(queries, keys, torch.cat([text_v, v], 1))


class ParallelAttention(JointAttention):
    """One call of a single-stream block of FLUX.2, which projects the feed-forward in and out with the attention."""

    def finish(self, output: Tensor) -> Tensor:
        """Features and feed-forward through their common out-projection."""
        layer = self._layer
        return layer.to_out(torch.cat([output, layer.mlp_act_fn(self._fused[1])], -1))

    @cached_property
    def _fused(self) -> tuple[Tensor, Tensor]:
        """What the common projection gives for attention and for the feed-forward, (b f) n … each."""
        both = self._layer.to_qkv_mlp_proj(self.tokens)
        attention = 3 * self._layer.inner_dim
        return both[..., :attention], both[..., attention:]

    @cached_property
    def _projected(self) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values = (self._by_head(part) for part in self._fused[0].chunk(3, -1))
        return self._rotated(queries, keys, values)

    def _of_frames(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, _ = self._fused
        queries, keys, values = (self._by_head(part) for part in attention[frames].chunk(3, -1))
        return self._rotated(queries, keys, values)


class JointProcessor:
    """An attention override as a diffusers attention processor of a FLUX.1 block, or a double-stream one of FLUX.2."""

    def __init__(self, site: Site, wrap: Callable[..., AttentionCall], beside: Beside, override: AttentionOverride):
        self._site = site
        self._wrap = wrap
        self._beside = beside
        self._override = override

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        """The override's features for one call."""
        wrapped = (self._site, attn, self._beside, image_rotary_emb, hidden_states)
        call = self._wrap(*wrapped) if encoder_hidden_states is None else self._wrap(*wrapped, encoder_hidden_states)
        return call.finish(self._override(call))


class ParallelProcessor(JointProcessor):
    """The same for a single-stream block of FLUX.2, which calls its processor without a place for the text."""

    def __call__(  # type: ignore[override]
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        """The override's features for one call."""
        return super().__call__(attn, hidden_states, image_rotary_emb=image_rotary_emb)
