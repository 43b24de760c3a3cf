from unittest import mock

import pytest
import torch

from tests.tiny import tiny_model
from tokenflow.models.attention import Injection, SelfAttention, Site, override_attention, per_frame_attention
from tokenflow.models.model import stack

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))


def test_ordinary_self_attention_through_our_processor_is_diffusers_own() -> None:
    model = tiny_model()
    prompt = stack([model.encode_prompt("a dog"), model.encode_prompt("a tiger")])
    ours = model.predict(LATENTS, 500, prompt, strategy=per_frame_attention())
    theirs = model.predict(LATENTS, 500, prompt)
    # The same projections and the same fused kernel, so the same numbers to rounding.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_processors_and_hooks_are_what_they_were_after_a_call() -> None:
    model = tiny_model()
    unet = model._unet
    before = dict(unet.attn_processors)
    model.predict(LATENTS, 500, model.encode_prompt("a dog"), strategy=per_frame_attention())
    assert unet.attn_processors == before
    assert not any(module._forward_hooks or "forward" in vars(module) for module in unet.modules())


def test_processors_and_hooks_are_what_they_were_after_an_exception() -> None:
    model = tiny_model()
    unet = model._unet
    before, appearance = dict(unet.attn_processors), repr(unet)

    def fail(site: Site, layer: SelfAttention, tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("in the middle of the network")

    injection = Injection(features={"block": torch.zeros(3, 32, 2, 3)})
    with pytest.raises(RuntimeError, match="in the middle"):
        model.predict(LATENTS, 500, model.encode_prompt("a dog"), strategy=fail, injection=injection)
    assert unet.attn_processors == before
    assert repr(unet) == appearance
    assert not any(module._forward_hooks or "forward" in vars(module) for module in unet.modules())


def test_inside_the_context_only_the_given_sites_are_replaced() -> None:
    model = tiny_model()
    unet = model._unet
    before = dict(unet.attn_processors)
    site = model.sites[0]
    with override_attention(unet, (site,), per_frame_attention()):
        changed = {name for name, processor in unet.attn_processors.items() if processor is not before[name]}
    assert changed == {f"{site.name}.processor"}


def test_a_stand_in_is_called_in_place_of_a_module_and_then_gone_with_what_was_there_before_back() -> None:
    model = tiny_model()
    unet = model._unet
    block = unet.mid_block.resnets[0]

    def hooked(hidden: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return type(block).forward(block, hidden, *rest)  # as accelerate's hooks stand on a module

    for own in (None, hooked):
        if own is not None:
            block.forward = own
        stand_in = mock.Mock(side_effect=lambda hidden, *_: hidden)
        with override_attention(unet, (), None, forward_overrides={block: stand_in}):
            model.predict(LATENTS, 500, model.encode_prompt("a dog"))
        stand_in.assert_called_once()
        assert vars(block).get("forward") is own


def test_a_grid_covers_latents_of_any_size() -> None:
    assert Site("x", 4).grid(8, 10) == (2, 3)
