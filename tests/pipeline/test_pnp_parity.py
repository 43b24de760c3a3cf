"""Plug-and-Play beside a second implementation: hooks and written-out attention on diffusers' UNets, frame by frame."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tests.tiny import inverted_clip, moving_square, tiny_pipeline, tiny_xl_pipeline, whole
from tokenflow.config import Edit
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.sampling import sample_edit
from tokenflow.pipeline.wiring import build_correspondence, build_guidance

PROMPT, NEGATIVE, SCALE, STEPS = "a golden tiger", "a cat", 5.0, 5
TOLERANCE = 1e-4
"""Of latents up to about ten."""

FAMILIES = {"SD": (tiny_pipeline, 1), "SDXL": (tiny_xl_pipeline, 0)}
"""The pipeline, and its coarsest decoder level with self-attention."""


class Attention:
    """A self-attention layer in float64 that notes its queries and keys, or takes those that were noted."""

    def __init__(self) -> None:
        self.noted: tuple[Tensor, Tensor] | None = None
        self.injects = False

    def __call__(self, attn: Any, hidden_states: Tensor, **_: Any) -> Tensor:
        queries, keys, values = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        if self.injects and self.noted is not None:
            queries, keys = (each.repeat(len(hidden_states), 1, 1) for each in self.noted)
        else:
            self.noted = queries, keys
        heads = [each.double().unflatten(-1, (attn.heads, -1)).transpose(1, 2) for each in (queries, keys, values)]
        scores = heads[0] @ heads[1].transpose(-1, -2) / heads[0].shape[-1] ** 0.5  # b h n n
        attended = (scores.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2)  # b n c
        made: Tensor = attn.to_out[0](attended.to(hidden_states))
        return made


class Features:
    """A module whose output is noted, or replaced by what was noted."""

    def __init__(self) -> None:
        self.noted: Tensor | None = None
        self.injects = False

    def __call__(self, _module: Any, _inputs: Any, output: Tensor) -> Tensor | None:
        if self.injects and self.noted is not None:
            return self.noted.repeat(len(output), 1, 1, 1)
        self.noted = output
        return None


@contextmanager
def hooked(unet: Any, level: int, kind: str) -> Iterator[tuple[list[Attention], Features]]:
    """The decoder's attention from the second layer of a level on, and the features of its second residual block."""
    layers = [
        block.attn1
        for index, up in enumerate(unet.up_blocks)
        for place, attention in enumerate(getattr(up, "attentions", []))
        if index > level or (index == level and place >= 1)
        for block in attention.transformer_blocks
    ]
    resnet, features = unet.up_blocks[level].resnets[1], Features()
    before = [layer.processor for layer in layers]
    attentions = [Attention() for _ in layers]
    with ExitStack() as stack:
        for layer, attention, processor in zip(layers, attentions, before, strict=True):
            layer.set_processor(attention)
            stack.callback(layer.set_processor, processor)
        handle = (resnet if kind == "block" else resnet.conv2).register_forward_hook(features)
        stack.callback(handle.remove)
        yield attentions, features


@torch.no_grad()
def reference(
    source: InvertedClip, pipeline: Any, level: int, kind: str, features_until: float, attention_until: float
) -> Tensor:
    """The edited latents, f c h w."""
    unet, scheduler = pipeline.unet.eval(), DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    guidance = build_guidance(source.model, PROMPT, NEGATIVE, SCALE, source.size)

    def call(latents: Tensor, time: int, conditioning: Conditioning) -> Tensor:
        made: Tensor = unet(
            latents.repeat(conditioning.branches, 1, 1, 1),
            time,
            encoder_hidden_states=conditioning.tokens,
            added_cond_kwargs=dict(conditioning.added) or None,
        ).sample
        return made

    steps = source.model.schedule.steps(STEPS)
    frames = []
    for index in range(source.frame_count):
        latents = source.inversion.latents(steps[0].at, [index])
        with hooked(unet, level, kind) as (attentions, features):
            for number, (time, step) in enumerate(zip(scheduler.timesteps, steps, strict=True)):
                for each in (*attentions, features):
                    each.injects = False
                call(source.inversion.latents(step.at, [index]), time, source.conditioning)
                features.injects = (number + 1) / STEPS <= features_until
                for each in attentions:
                    each.injects = (number + 1) / STEPS <= attention_until
                without, given = call(latents, time, guidance.branches).chunk(2)
                latents = scheduler.step(without + SCALE * (given - without), time, latents).prev_sample
        frames.append(latents)
    return torch.cat(frames)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["residual", "block"])
@pytest.mark.parametrize("until", [(0.8, 0.4), (1.0, 0.8)])
def test_an_edit_is_what_hooks_on_the_network_make(family: str, kind: str, until: tuple[float, float]) -> None:
    make, level = FAMILIES[family]
    source = inverted_clip(moving_square(2), STEPS, model=StableDiffusion(make()))
    edit = Edit(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        steps=STEPS,
        guidance_scale=SCALE,
        propagation="none",
        pnp={"features": kind, "features_until": until[0], "attention_until": until[1]},
    )
    guidance = build_guidance(source.model, PROMPT, NEGATIVE, SCALE, source.size)
    made = whole(sample_edit(source, guidance, edit, build_correspondence(source, edit)))
    expected = reference(source, make(), level, kind, *until)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(made, expected, rtol=0, atol=TOLERANCE)
