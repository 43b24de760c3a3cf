from unittest import mock

import pytest
import torch

from tests.tiny import level, tiny_model
from tokenflow.models.attention import AttentionCall, per_frame_attention
from tokenflow.models.injection import Injection
from tokenflow.models.patching import patched
from tokenflow.models.processors import attention_processors
from tokenflow.models.unet import UNetAttention

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))


def test_processors_and_hooks_are_restored_after_a_call() -> None:
    model = tiny_model()
    unet = model._unet
    before = dict(unet.attn_processors)
    model.predict(LATENTS, level(500), model.condition("a dog"), attention=per_frame_attention())
    assert unet.attn_processors == before
    assert not any(module._forward_hooks or "forward" in vars(module) for module in unet.modules())


def test_processors_and_hooks_are_restored_after_an_exception() -> None:
    model = tiny_model()
    unet = model._unet
    before, appearance = dict(unet.attn_processors), repr(unet)

    def fail(call: AttentionCall) -> torch.Tensor:
        raise RuntimeError("in the middle of the network")

    injection = Injection(features={"block": torch.zeros(3, 32, 2, 3)})
    with pytest.raises(RuntimeError, match="in the middle"):
        model.predict(LATENTS, level(500), model.condition("a dog"), attention=fail, inject=injection)
    assert unet.attn_processors == before
    assert repr(unet) == appearance
    assert not any(module._forward_hooks or "forward" in vars(module) for module in unet.modules())


def test_inside_the_context_only_the_given_processors_are_replaced() -> None:
    model = tiny_model()
    unet = model._unet
    before = dict(unet.attn_processors)
    site = model.sites[0]
    with patched(attention_processors(unet, [site], UNetAttention, per_frame_attention())):
        changed = {name for name, processor in unet.attn_processors.items() if processor is not before[name]}
    assert changed == {f"{site.name}.processor"}


def test_a_replaced_forward_is_called_and_then_gone_with_what_was_there_before_restored() -> None:
    model = tiny_model()
    block = model._unet.mid_block.resnets[0]

    def hooked(hidden: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return type(block).forward(block, hidden, *rest)  # as accelerate's hooks sit on a module

    for own in (None, hooked):
        if own is not None:
            block.forward = own
        replacement = mock.Mock(side_effect=lambda hidden, *_: hidden)
        with patched({}, forwards={block: replacement}):
            model.predict(LATENTS, level(500), model.condition("a dog"))
        replacement.assert_called_once()
        assert vars(block).get("forward") is own
