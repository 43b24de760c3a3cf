"""How a UNet of the Stable Diffusion family is built: where self-attention is, and where Plug-and-Play injects.

Everything is found from the architecture: a UNet of another depth or width has its sites and injection points in the
corresponding places. Knows diffusers' blocks; knows nothing of what is done at the places it finds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from tokenflow.errors import ModelError
from tokenflow.models.attention import Forward, Site


@dataclass(frozen=True)
class InjectionPoints:
    """Where Plug-and-Play injects.

    Attributes:
        block: the residual block whose features are injected.
        attention: the names of the sites whose queries and keys are.
        bypassed: the modules that act on the result through the block's output alone, so that nothing is left of them
            where that is injected; each with a stand-in for its `forward`, which gives no more than the right shape.
    """

    block: nn.Module
    attention: tuple[str, ...]
    bypassed: Mapping[nn.Module, Forward]


def find_sites(unet: nn.Module) -> Iterator[Site]:
    """The sites of self-attention, in the order in which the network runs through them."""
    for stage, block, scale in _stages(unet):
        for name, module in block.named_modules():
            if isinstance(module, BasicTransformerBlock) and not module.only_cross_attention:
                yield Site(f"{stage}.{name}.attn1", scale)


def coarsest_scale(unet: Any) -> int:
    """How many latents a token of the coarsest level spans along each side."""
    return math.prod(2 for block in unet.down_blocks if block.downsamplers is not None)


def find_injection_points(unet: Any, sites: tuple[Site, ...]) -> InjectionPoints:
    """Where Plug-and-Play injects.

    In Stable Diffusion the paper's choice (Tumanyan et al., CVPR 2023, section 4) is `up_blocks[1].resnets[1]`, and
    attention from `up_blocks[1].attentions[1]` on. `up_blocks[1]` is the coarsest decoder level with self-attention,
    which is how we find the place in a UNet of another depth.

    Raises:
        ModelError: there is no self-attention in the decoder.
    """
    for index, block in enumerate(unet.up_blocks):
        names = [site.name for site in sites if site.name.startswith(f"up_blocks.{index}.")]
        if names:
            second = min(1, len(block.resnets) - 1)
            decoder = [site.name for site in sites if site.name.startswith("up_blocks.")]
            first = f"up_blocks.{index}.attentions.{min(1, len(block.attentions) - 1)}."
            start = next(place for place, name in enumerate(decoder) if name.startswith(first))
            forward_overrides = {module: _stand_in(module) for module in _overruled(unet, index, second)}
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


def _overruled(unet: Any, index: int, resnet: int) -> Iterator[nn.Module]:
    """The modules that nothing depends on but the output of `up_blocks[index].resnets[resnet]`.

    Each residual block of the decoder takes the last skip connection that is left. Those that it and the ones before it
    take reach the picture through it alone, and so does all that lies between.
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
    """What makes each of the encoder's skip connections of the one before it; the first has none before it."""
    for block in unet.down_blocks:
        for place, resnet in enumerate(block.resnets):
            yield [resnet, *_attentions(block)[place : place + 1]]
        yield from ([downsampler] for downsampler in block.downsamplers or ())


def _attentions(block: Any) -> list[nn.Module]:
    return list(getattr(block, "attentions", ()))


def _stand_in(module: Any) -> Forward | None:
    """Zeros in the shape of a module's output, or its input where that has it; None for kinds that we do not know."""
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
    """A module's output of zeros, which takes no memory."""
    return like.new_zeros(()).expand(len(like), module.out_channels, *size)
