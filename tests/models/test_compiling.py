"""Compiled blocks, traced by torch's compiler and run as they are, which takes seconds instead of minutes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import tokenflow
from tests.tiny import moving_square, tiny_model
from tests.tiny_flux import tiny_flux
from tokenflow.models.compiling import compile_blocks

CLIP = tokenflow.Video(moving_square(3, height=32, width=32), rate=1)
MODELS: dict[str, Callable[[], Any]] = {"sd": tiny_model, "flux": tiny_flux}


def edited(model: Any, features: str) -> np.ndarray:
    inverted = tokenflow.invert(CLIP, model, "a dog on grass", steps=2, size=32)
    mode = tokenflow.PnP(features=features, features_until=1, attention_until=1)
    return tokenflow.edit(inverted, "a golden tiger", mode=mode, keyframe_interval=2).decoded.astype(int)


@pytest.mark.parametrize("family", MODELS)
def test_a_compiled_model_edits_as_before_and_compiles_nothing_for_the_second_edit(family: str) -> None:
    torch._dynamo.reset()
    plain, compiled = MODELS[family](), MODELS[family]()
    compile_blocks(compiled.blocks, backend="eager")
    counters.clear()
    expected, found = (edited(model, "residual") for model in (plain, compiled))
    assert np.abs(found - expected).max() <= 1  # of 255, where a value is rounded
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    edited(compiled, "residual")
    assert counters["stats"]["unique_graphs"] == graphs


def test_blocks_without_features_of_their_own_are_compiled_and_attention_is_not() -> None:
    model = tiny_model()
    compile_blocks(model.blocks, backend="eager")
    compiled = {name for name, module in model.network.named_modules() if "forward" in vars(module)}
    assert "down_blocks.0.resnets.0" in compiled
    assert "down_blocks.0.attentions.0.transformer_blocks.0" in compiled
    assert "up_blocks.1.resnets.1" not in compiled  # where Plug-and-Play injects
    assert {name for name, module in model.network.named_modules() if hasattr(module, "set_processor")} <= compiled
