from unittest import mock

import pytest
import torch

from tests.tiny import tiny_backbone
from tokenflow.attention import Injection, SelfAttention, Site, each_frame_to_itself, patched
from tokenflow.backbones.base import stack

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))


def test_ordinary_self_attention_through_our_processor_is_diffusers_own() -> None:
    backbone = tiny_backbone()
    prompt = stack([backbone.embed("a dog"), backbone.embed("a tiger")])
    ours = backbone.predict(LATENTS, 500, prompt, strategy=each_frame_to_itself())
    theirs = backbone.predict(LATENTS, 500, prompt)
    # The same projections and the same fused kernel, so the same numbers to rounding.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_processors_and_hooks_are_what_they_were_after_a_call() -> None:
    backbone = tiny_backbone()
    unet = backbone._unet
    before = dict(unet.attn_processors)
    backbone.predict(LATENTS, 500, backbone.embed("a dog"), strategy=each_frame_to_itself())
    assert unet.attn_processors == before
    assert not any(module._forward_hooks or "forward" in vars(module) for module in unet.modules())


def test_processors_and_hooks_are_what_they_were_after_an_exception() -> None:
    backbone = tiny_backbone()
    unet = backbone._unet
    before, appearance = dict(unet.attn_processors), repr(unet)

    def fail(site: Site, layer: SelfAttention, tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("in the middle of the network")

    injection = Injection(features={"block": torch.zeros(3, 32, 2, 3)})
    with pytest.raises(RuntimeError, match="in the middle"):
        backbone.predict(LATENTS, 500, backbone.embed("a dog"), strategy=fail, injection=injection)
    assert unet.attn_processors == before
    assert repr(unet) == appearance
    assert not any(module._forward_hooks or "forward" in vars(module) for module in unet.modules())


def test_inside_the_context_only_the_given_sites_are_replaced() -> None:
    backbone = tiny_backbone()
    unet = backbone._unet
    before = dict(unet.attn_processors)
    site = backbone.sites[0]
    with patched(unet, (site,), each_frame_to_itself()):
        changed = {name for name, processor in unet.attn_processors.items() if processor is not before[name]}
    assert changed == {f"{site.name}.processor"}


def test_a_stand_in_is_called_in_place_of_a_module_and_then_gone_with_what_was_there_before_back() -> None:
    backbone = tiny_backbone()
    unet = backbone._unet
    block = unet.mid_block.resnets[0]

    def hooked(hidden: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return type(block).forward(block, hidden, *rest)  # as accelerate's hooks stand on a module

    for own in (None, hooked):
        if own is not None:
            block.forward = own
        stand_in = mock.Mock(side_effect=lambda hidden, *_: hidden)
        with patched(unet, (), None, stand_ins={block: stand_in}):
            backbone.predict(LATENTS, 500, backbone.embed("a dog"))
        stand_in.assert_called_once()
        assert vars(block).get("forward") is own


def test_a_grid_covers_latents_of_any_size() -> None:
    assert Site("x", 4).grid(8, 10) == (2, 3)
