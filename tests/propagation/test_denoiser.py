from pathlib import Path

import pytest
import torch

from tests.propagation.conftest import STEPS
from tests.propagation.test_tokenflow import MODES, guidance
from tests.tiny import whole
from tokenflow import config as settings
from tokenflow.diffusion.conditioning import stack
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.levels import shared_noise
from tokenflow.diffusion.parametrisation import step
from tokenflow.models.attention import per_frame_attention
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.modes.source import InvertedClip
from tokenflow.propagation import EditDenoiser


@pytest.mark.parametrize("name", MODES)
def test_the_sources_prediction_leads_from_the_source_at_each_level_to_the_next(
    name: str, moving: InvertedClip, tmp_path: Path
) -> None:
    mode = MODES[name](moving, tmp_path)
    denoiser = EditDenoiser(moving.model, mode, guidance(moving))
    indices = [7, 2]
    for each in moving.model.schedule.steps(STEPS):
        noisier = mode.source_latents_at(each.at)[indices]
        prediction = denoiser.source_prediction(indices, each)
        cleaner = step(moving.model.schedule.parametrisation, noisier, prediction, each.at, each.to)
        # Float32; ᾱ of the noisiest level is 0.005, by whose root latents are divided.
        torch.testing.assert_close(cleaner, mode.source_latents_at(each.to)[indices], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODES)
def test_sampling_starts_from_the_unedited_source(name: str, moving: InvertedClip, tmp_path: Path) -> None:
    mode = MODES[name](moving, tmp_path)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    assert torch.equal(whole(start), whole(mode.source_latents_at(steps[0].at)))


def test_the_sources_prediction_is_the_shared_noise_where_the_mode_adds_that(moving: InvertedClip) -> None:
    mode = SDEditMode(moving, settings.SDEdit(noise="shared"), 3)
    denoiser = EditDenoiser(moving.model, mode, guidance(moving))
    noise = denoiser.source_prediction(range(moving.frame_count), moving.model.schedule.steps(STEPS)[1])
    torch.testing.assert_close(noise, shared_noise(noise, 3), rtol=0, atol=1e-4)


def test_prompts_of_parts_of_the_frame_are_joined_by_their_shares(moving: InvertedClip, tmp_path: Path) -> None:
    model, mode = moving.model, MODES["sdedit"](moving, tmp_path)
    prompts = [model.condition(prompt) for prompt in ("a tiger", "a zebra")]
    at, indices = moving.model.schedule.steps(STEPS)[0], [1, 3]
    latents = mode.source_latents_at(at.at)[indices]
    shares = torch.rand(2, moving.frame_count, 1, *latents.shape[-2:], generator=torch.Generator().manual_seed(0))
    shares /= shares.sum(0)
    guided = Guidance(prompts[0], model.condition("", negative=True), 4.0).with_prompts(stack(prompts))
    denoiser = EditDenoiser(model, mode, guided, prompt_shares=lambda frames: shares[:, list(frames)])
    rest, joined = denoiser.predict(indices, latents, at, guided.branches, per_frame_attention)
    alone = [model.predict(latents, at.at, prompt)[0] for prompt in prompts]
    # Float32: one call of three branches rounds differently from three calls of one.
    torch.testing.assert_close(joined, shares[0, indices] * alone[0] + shares[1, indices] * alone[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        rest, model.predict(latents, at.at, model.condition("", negative=True))[0], rtol=0, atol=1e-5
    )
