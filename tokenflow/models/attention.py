"""Self-attention in a network: its sites, the parts of one call, and what may replace it.

A model family wraps each of its attention layers as an `AttentionCall`. Propagation brings an `AttentionOverride`,
which is called in place of each site's self-attention and may combine the parts freely.

Shapes: m sequences of n tokens with c channels; in a network call m = (b f), with b branches outermost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from tokenflow.models.injection import EMPTY, Injection, QueriesKeys

Memory = tuple[Tensor, ...]
"""What queries attend to, as tensors m k …: an entry per frame on the second axis. Memories of more frames are joined
by concatenation along it; the family's `attend` reads them together, by softmax over all keys or by a sum of states."""


@dataclass(frozen=True)
class Site:
    """A self-attention layer of a network.

    Attributes:
        name: the network's own name for it.
        scale: how many latents a token spans along each side; its grid is ⌈h/scale⌉ × ⌈w/scale⌉.
        linear: whether memories of frames add up, so that attending to many frames costs what attending to one does.
        width: channels of its features.
    """

    name: str
    scale: int
    linear: bool = False
    width: int = 0

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of this site's token grid, for latents of `height` × `width`."""
        return -(-height // self.scale), -(-width // self.scale)


class AttentionCall(Protocol):
    """The self-attention of one site in one network call.

    Attributes:
        site: where it is.
        tokens: (b f) n c, normalised, as they enter the layer: what features are matched by (Geyer et al., ICLR 2024,
            section 4.2).
        text_tokens: how many of the n tokens of queries, keys, values and features stand for text. They come first;
            then the site's grid, row by row; then the same grid again for an image that the frame is shown beside.
    """

    site: Site
    tokens: Tensor
    text_tokens: int

    def queries_keys(self, injected: QueriesKeys | None = None) -> tuple[Tensor, Tensor]:
        """Queries and keys of all tokens, (b f) n c each, normalised and rotated as the family does it.

        Args:
            injected: those of the image tokens (f n c each) in place of the call's own, in every branch.
        """
        ...

    def values(self) -> Tensor:
        """Values of all tokens, (b f) n c."""
        ...

    def project_part(self, frames: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of some tokens, and what they attend to in their own frames.

        Args:
            frames: g, indices along the first axis of `tokens`.
            indices: g l, image tokens of each of these frames.

        Returns:
            Queries g l c of these tokens; keys and values g n c of all tokens of these frames.
        """
        ...

    def memory(self, keys: Tensor, values: Tensor) -> Memory:
        """What queries of any frame need of each of these frames (keys and values … n c): tensors with the same leading
        axes."""
        ...

    def attend(self, queries: Tensor, memory: Memory, counts: Tensor | None = None) -> Tensor:
        """Attention of queries (m n c) to all frames of a memory (m k …): m n c, the feature that is propagated.

        Args:
            queries: m n c.
            memory: m k ….
            counts: m k, how many times the tokens of each frame count, from 0; None for once each. At least one frame
                has to count. Softmax adds the logarithm to the logits; linear attention multiplies states.
        """
        ...

    def finish(self, output: Tensor) -> Any:
        """What the layer returns to the network, from the features (b f) n c of all frames."""
        ...


AttentionOverride = Callable[[AttentionCall], Tensor]
"""Computes the features (b f) n c of a site's call in place of ordinary self-attention."""


def project_qkv(call: AttentionCall, injection: Injection = EMPTY) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ((b f) n c each) of a call, with injected queries and keys in place of its own."""
    return *call.queries_keys(injection.queries_keys.get(call.site.name)), call.values()


def attend_within_frames(call: AttentionCall, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of every frame to itself: m n c of queries, keys and values m n c."""
    memory = call.memory(keys, values)
    return call.attend(queries, tuple(each[:, None] for each in memory))  # m n c → m 1 n c


def per_frame_attention(injection: Injection = EMPTY) -> AttentionOverride:
    """Ordinary self-attention, every frame to itself, with injected queries and keys."""
    return lambda call: attend_within_frames(call, *project_qkv(call, injection))
