"""The UNets of Stable Diffusion: where self-attention and the injection points are, and the parts of an attention call.

Everything is found from the architecture, so a UNet of another depth or width has its sites and injection points in the
corresponding places.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from tokenflow.errors import ModelError
from tokenflow.models.attention import Memory, Site
from tokenflow.models.injection import QueriesKeys, repeated_pair
from tokenflow.models.patching import Forward

FINEST_LEVELS = 2
"""How many levels of cross-attention are read, the finest ones: coarser ones do not tell places apart."""


class UNetAttention:
    """One self-attention call of a UNet: an `AttentionCall` over diffusers' `Attention`.

    Args:
        site: where it is.
        layer: the attention module. Its linears are called as modules, so LoRA and quantised layers work.
        tokens: (b f) n c, the output of the block's norm.
    """

    text_tokens = 0

    def __init__(self, site: Site, layer: Any, tokens: Tensor) -> None:
        self.site = site
        self.tokens = tokens
        self._layer = layer

    def queries_keys(self, injected: QueriesKeys | None = None) -> tuple[Tensor, Tensor]:
        """Queries and keys of all tokens, (b f) n c each."""
        if injected is not None:
            return repeated_pair(injected, self.tokens)
        return self._layer.to_q(self.tokens), self._layer.to_k(self.tokens)

    def values(self) -> Tensor:
        """Values of all tokens, (b f) n c."""
        return self._layer.to_v(self.tokens)

    def project_part(self, frames: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries g l c of tokens (g l) in frames (g), and keys and values g n c of these frames."""
        own = self.tokens[frames]  # g n c
        asking = own[torch.arange(len(own), device=own.device)[:, None], indices]  # g l c
        return self._layer.to_q(asking), self._layer.to_k(own), self._layer.to_v(own)

    def memory(self, keys: Tensor, values: Tensor) -> Memory:
        """Keys and values themselves (… n c): softmax needs all of them."""
        return keys, values

    def attend(self, queries: Tensor, memory: Memory, counts: Tensor | None = None) -> Tensor:
        """Softmax attention of queries (m n c) over keys and values (m k n' c each), through the out-projection: m n c.
        The logarithms of `counts` (m k) are added to the logits.

        The out-projection is affine, and the weights of a propagated feature add up to 1, so propagating behind it
        gives the same as in front of it and spares every propagated frame the product.
        """
        bias = None
        if counts is not None:  # m k → m 1 1 (k n')
            bias = counts.log().to(queries).repeat_interleave(memory[0].shape[2], dim=1)[:, None, None]
        keys, values = (part.flatten(1, 2) for part in memory)  # m k n' c → m (k n') c
        q, k, v = (self.split_heads(part) for part in (queries, keys, values))  # m h n c/h
        return self.project_out(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))

    def split_heads(self, tokens: Tensor) -> Tensor:
        """Queries, keys or values m n c head by head: m h n c/h."""
        return tokens.unflatten(-1, (self._layer.heads, -1)).transpose(1, 2)

    def project_out(self, attended: Tensor) -> Tensor:
        """What the heads attended to, m h n c/h, through the out-projection: m n c."""
        projection, dropout = self._layer.to_out
        return dropout(projection(attended.transpose(1, 2).flatten(2)))

    def finish(self, output: Tensor) -> Tensor:
        """The features themselves: the block adds them to its input."""
        return output


@dataclass(frozen=True)
class InjectionPoints:
    """Where Plug-and-Play injects.

    Attributes:
        block: the residual block whose features are injected.
        attention: names of the sites whose queries and keys are injected.
        bypassed: modules that reach the result only through the block's output, so that injecting it makes them
            redundant; each with a cheap replacement for its `forward` that returns the right shape.
    """

    block: nn.Module
    attention: tuple[str, ...]
    bypassed: Mapping[nn.Module, Forward]


def find_sites(unet: nn.Module) -> Iterator[Site]:
    """The sites of self-attention, in the order in which the network runs through them."""
    for stage, block, scale in _stages(unet):
        for name, module in block.named_modules():
            if isinstance(module, BasicTransformerBlock) and not module.only_cross_attention:
                yield Site(f"{stage}.{name}.attn1", scale, width=module.attn1.to_q.out_features)


def blocks_without(unet: nn.Module, injected: nn.Module) -> list[nn.Module]:
    """Residual and transformer blocks, but for the one whose parts are replaced."""
    kinds = (ResnetBlock2D, BasicTransformerBlock)
    return [module for module in unet.modules() if isinstance(module, kinds) and module is not injected]


def text_grids(unet: nn.Module, sites: Sequence[Site], size: tuple[int, int]) -> dict[nn.Module, tuple[int, int]]:
    """The layers of cross-attention at the finest levels, and their token grids for latents of a height and width."""
    scales = sorted({site.scale for site in sites})[:FINEST_LEVELS]
    return {
        unet.get_submodule(f"{site.name.removesuffix('attn1')}attn2"): site.grid(*size)
        for site in sites
        if site.scale in scales
    }


def coarsest_scale(unet: Any) -> int:
    """How many latents a token of the coarsest level spans along each side."""
    return math.prod(2 for block in unet.down_blocks if block.downsamplers is not None)


def find_injection_points(unet: Any, sites: tuple[Site, ...]) -> InjectionPoints:
    """Where Plug-and-Play injects.

    In Stable Diffusion the paper's choice (Tumanyan et al., CVPR 2023, section 4) is `up_blocks[1].resnets[1]`, and
    attention from `up_blocks[1].attentions[1]` on. `up_blocks[1]` is the coarsest decoder level with self-attention,
    by which the place is found in a UNet of another depth.

    Raises:
        ModelError: there is no self-attention in the decoder.
    """
    for index, block in enumerate(unet.up_blocks):
        names = [site.name for site in sites if site.name.startswith(f"up_blocks.{index}.")]
        if names:
            second = min(1, len(block.resnets) - 1)
            decoder = [site.name for site in sites if site.name.startswith("up_blocks.")]
            first = f"up_blocks.{index}.attentions.{min(1, len(block.attentions) - 1)}."
            start = next(number for number, name in enumerate(decoder) if name.startswith(first))
            forward_overrides = {module: _zeros_forward(module) for module in _overridden(unet, index, second)}
            bypassed = {module: forward for module, forward in forward_overrides.items() if forward}
            return InjectionPoints(block.resnets[second], tuple(decoder[start:]), bypassed)
    raise ModelError(
        "the UNet has no self-attention in its decoder, so there is nothing to propagate or inject; "
        "expected a UNet of the Stable Diffusion family: choose another model.path"
    )


def _stages(unet: nn.Module) -> Iterator[tuple[str, nn.Module, int]]:
    """The UNet's blocks in the order in which it runs through them, each with the scale it works at."""
    blocks: Any = unet
    scale = 1
    for index, block in enumerate(blocks.down_blocks):
        yield f"down_blocks.{index}", block, scale
        if block.downsamplers is not None:
            scale *= 2
    if blocks.mid_block is not None:
        yield "mid_block", blocks.mid_block, scale
    for index, block in enumerate(blocks.up_blocks):
        yield f"up_blocks.{index}", block, scale
        if block.upsamplers is not None:
            scale //= 2


def _overridden(unet: Any, index: int, resnet: int) -> Iterator[nn.Module]:
    """The modules on which only the output of `up_blocks[index].resnets[resnet]` depends.

    Each residual block of the decoder takes the last skip connection that is left. Those taken by this block and by the
    ones before it reach the result only through this block, and so does everything between.
    """
    taken = sum(len(block.resnets) for block in unet.up_blocks[:index]) + resnet + 1
    for modules in [*_skips(unet)][-taken:]:
        yield from modules
    if unet.mid_block is not None:
        yield from (*unet.mid_block.resnets, *_attentions(unet.mid_block))
    for block in unet.up_blocks[:index]:
        yield from (*block.resnets, *_attentions(block), *(block.upsamplers or ()))
    yield from (*unet.up_blocks[index].resnets[:resnet], *_attentions(unet.up_blocks[index])[:resnet])


def _skips(unet: Any) -> Iterator[list[nn.Module]]:
    """The modules between each of the encoder's skip connections and the one before it."""
    for block in unet.down_blocks:
        for number, resnet in enumerate(block.resnets):
            yield [resnet, *_attentions(block)[number : number + 1]]
        yield from ([downsampler] for downsampler in block.downsamplers or ())


def _attentions(block: Any) -> list[nn.Module]:
    return list(getattr(block, "attentions", ()))


def _zeros_forward(module: Any) -> Forward | None:
    """A forward that returns zeros in the shape of the module's output, or its input; None for other modules."""
    if isinstance(module, Transformer2DModel):
        return lambda hidden, *_, **__: (hidden,)
    if isinstance(module, ResnetBlock2D) and not (module.up or module.down):
        return lambda hidden, *_, **__: _zeros(module, hidden, hidden.shape[-2:])
    if isinstance(module, Downsample2D):
        return lambda hidden, *_, **__: _zeros(module, hidden, [-(-side // 2) for side in hidden.shape[-2:]])
    if isinstance(module, Upsample2D):
        return lambda hidden, size=None, *_, **__: _zeros(module, hidden, size or [2 * n for n in hidden.shape[-2:]])
    return None


def _zeros(module: Any, like: Tensor, size: Sequence[int]) -> Tensor:
    """Zeros in the shape of a module's output, expanded from one number."""
    return like.new_zeros(()).expand(len(like), module.out_channels, *size)
