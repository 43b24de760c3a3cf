"""Propagation through linear attention, on a tiny Sana: what adds, and the identities that have to hold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.propagation.conftest import ITERATIONS, STEPS
from tests.propagation.test_tokenflow import PROPAGATED, ROUNDING, clean, guidance, pnp, sample, tokenflow
from tests.tiny import inverted_clip, moving_square
from tests.tiny_sana import save_tiny_sana_controlnet, tiny_sana
from tokenflow.config import ControlNet, Edit, PnP, SDEdit
from tokenflow.diffusion.sampling import sample as sampling_loop
from tokenflow.models.attention import AttentionCall, project_qkv
from tokenflow.models.injection import EMPTY
from tokenflow.modes.controlnet import ControlNetMode
from tokenflow.modes.mode import Mode
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.wiring import propagation_options
from tokenflow.propagation import EditDenoiser, PerFrame
from tokenflow.propagation.extended_attention import extended_attention, extended_sites
from tokenflow.propagation.feature_bank import EMPTY_BANK, FeatureBank

HALF_PRECISION = 2e-3
"""What storing latents up to 4 in float16 changes: a unit in the last of 11 binary digits."""

LATENTS = torch.randn(6, 4, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def moving() -> InvertedClip:
    return inverted_clip(moving_square(11), STEPS, iterations=ITERATIONS, model=tiny_sana())


@pytest.fixture(scope="module")
def still() -> InvertedClip:
    return inverted_clip(np.repeat(moving_square(1), 7, axis=0), STEPS, iterations=ITERATIONS, model=tiny_sana())


def with_all_attending(latents: Tensor, context: FeatureBank = EMPTY_BANK) -> tuple[Tensor, dict[str, Tensor]]:
    """The prediction of frames that all attend to all, and to a context; and their memories."""
    model = tiny_sana()
    memories: dict[str, Tensor] = {}
    sites = extended_sites("coarse", model.sites)
    attention = extended_attention(EMPTY, len(latents), context, sites, {}, memories)
    level = model.schedule.steps(4)[2].at
    return model.predict(latents, level, model.condition("a dog"), attention=attention)[0], memories


def test_keyframes_attend_to_one_another_as_one_long_sequence() -> None:
    model = tiny_sana()
    level, prompt = model.schedule.steps(4)[2].at, model.condition("a dog")

    def one_sequence(call: AttentionCall) -> Tensor:
        queries, keys, values = (part.flatten(0, 1)[None] for part in project_qkv(call))  # 1 (f n) c
        output = call.attend(queries, tuple(each[:, None] for each in call.memory(keys, values)))
        return output.unflatten(1, (len(LATENTS), -1))[0]

    expected = model.predict(LATENTS, level, prompt, attention=one_sequence)[0]
    together, _ = with_all_attending(LATENTS)
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5)
    alone = model.predict(LATENTS, level, prompt)[0]
    assert (together - alone).abs().max() > 1e-4


def test_equal_frames_attending_to_one_another_are_what_each_is_alone() -> None:
    model = tiny_sana()
    still = LATENTS[:1].expand(5, -1, -1, -1)
    alone = model.predict(still, model.schedule.steps(4)[2].at, model.condition("a dog"))[0]
    torch.testing.assert_close(with_all_attending(still)[0], alone, rtol=0, atol=1e-5)


def test_states_of_earlier_frames_add_as_context() -> None:
    _, memories = with_all_attending(LATENTS[:1].expand(2, -1, -1, -1))
    context = FeatureBank((0, 1), memories)
    still = LATENTS[:1].expand(3, -1, -1, -1)
    torch.testing.assert_close(with_all_attending(still, context)[0], with_all_attending(still)[0], rtol=0, atol=1e-5)
    others = LATENTS[3:]
    assert (with_all_attending(others, context)[0] - with_all_attending(others)[0]).abs().max() > 1e-4


def test_work_and_memory_are_linear_in_the_keyframes_up_to_512() -> None:
    work, floats = {}, {}
    for count in (4, 8, 512):
        with FlopCounterMode(display=False) as counter:
            _, memories = with_all_attending(LATENTS[:1, :, :4, :4].repeat(count, 1, 1, 1))
        work[count] = counter.get_total_flops()
        floats[count] = sum(each.numel() for each in memories.values())
    assert {count: total / count for count, total in floats.items()} == dict.fromkeys(floats, 4 * 2 * 9 * 8)
    assert (work[512] - work[8]) / 504 == (work[8] - work[4]) / 4


def test_all_keyframes_make_one_window_whatever_the_setting(moving: InvertedClip) -> None:
    options = propagation_options(moving, Edit(prompt="", keyframe_interval=1, keyframe_window=2))
    assert options.window == 11
    assert options.extended == {site.name for site in moving.model.sites}


MODES: dict[str, Callable[[InvertedClip, Path], Mode]] = {
    "pnp": lambda source, _: pnp(source),
    "pnp, residual": lambda source, _: PnPMode(source, PnP(features="residual")),
    "sdedit": lambda source, _: SDEditMode(source, SDEdit(strength=0.5, noise="shared"), 0),
    "controlnet": lambda source, folder: ControlNetMode(
        source, ControlNet(path=str(save_tiny_sana_controlnet(folder))), 0
    ),
}


@pytest.mark.parametrize("propagated", PROPAGATED)
@pytest.mark.parametrize("name", MODES)
def test_a_still_clip_gives_still_output(name: str, propagated: str, still: InvertedClip, tmp_path: Path) -> None:
    mode = MODES[name](still, tmp_path)
    result = sample(still, mode, tokenflow(still, mode, guidance(still), **PROPAGATED[propagated]))
    torch.testing.assert_close(result, result[:1].expand_as(result), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", MODES)
def test_the_result_does_not_depend_on_the_batch_size(name: str, moving: InvertedClip, tmp_path: Path) -> None:
    mode = MODES[name](moving, tmp_path)
    options = PROPAGATED["the whole edit, for a while"]
    results = [
        sample(moving, mode, tokenflow(moving, mode, guidance(moving), batch_size=size, **options)) for size in (1, 100)
    ]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=ROUNDING)


def test_per_frame_guidance_1_with_the_sources_prompt_and_full_injection_returns_the_source(
    moving: InvertedClip,
) -> None:
    mode = pnp(moving, 1.0, 1.0)
    predict = PerFrame(EditDenoiser(moving.model, mode, guidance(moving, "a dog on grass", 1.0)), 4)
    torch.testing.assert_close(sample(moving, mode, predict), clean(moving), rtol=0, atol=HALF_PRECISION)


def test_the_whole_edit_propagated_with_the_sources_prompt_returns_a_moving_source(moving: InvertedClip) -> None:
    mode = pnp(moving, 1.0, 1.0)
    options = {"interval": 11, "propagate_edit_until": 1.0}
    predict = tokenflow(moving, mode, guidance(moving, "a dog on grass", 1.0), **options)
    torch.testing.assert_close(sample(moving, mode, predict), clean(moving), rtol=0, atol=HALF_PRECISION)


def test_without_propagation_frames_are_those_of_the_plain_sampler(moving: InvertedClip) -> None:
    mode = SDEditMode(moving, SDEdit(strength=1.0, noise="shared"), 0)
    guided = guidance(moving)
    edited = sample(moving, mode, PerFrame(EditDenoiser(moving.model, mode, guided), 4))
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))

    def plain(latents: Tensor, step: object) -> object:
        yield [0], guided.combine(*guided.split(moving.model.predict(latents[[0]], step.at, guided.branches)))

    *_, frame = sampling_loop(start[[0]], steps, plain, moving.model.schedule.parametrisation)
    torch.testing.assert_close(edited[:1], frame, rtol=0, atol=1e-5)
