from pathlib import Path

import pytest
import torch

from tests.propagation.conftest import STEPS
from tests.propagation.test_tokenflow import MODES, guidance
from tests.tiny import whole
from tokenflow import config as settings
from tokenflow.diffusion.schedules import ddim_step, shared_noise
from tokenflow.models.model import Conditioning
from tokenflow.modes.mode import InvertedClip
from tokenflow.modes.sdedit import SDEdit
from tokenflow.propagation import EditDenoiser, Guidance


@pytest.mark.parametrize("name", MODES)
def test_the_sources_noise_leads_from_the_source_at_each_level_to_the_next(
    name: str, moving: InvertedClip, tmp_path: Path
) -> None:
    mode = MODES[name](moving, tmp_path)
    editing = EditDenoiser(moving.model, mode, guidance(moving))
    alpha = moving.model.schedule.alpha
    frames = [7, 2]
    for step in moving.model.schedule.steps(STEPS):
        noisier = mode.source_latents_at(step.timestep)[frames]
        noise = editing.source_noise(frames, step)
        cleaner = ddim_step(noisier, noise, alpha(step.timestep), alpha(step.next_timestep))
        # Float32; ᾱ of the noisiest level is 0.005, by whose root latents are divided.
        torch.testing.assert_close(cleaner, mode.source_latents_at(step.next_timestep)[frames], rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1.5, 4.0, 7.5])
def test_guidance_is_the_noise_without_the_prompt_and_scale_times_what_the_prompt_adds(scale: float) -> None:
    """Ho & Salimans, 2022: ε = ε_uncond + scale · (ε_cond − ε_uncond)."""
    unconditional, conditional = torch.rand(2, 3, 4, 8, 8)
    prompts = [Conditioning(torch.full((1, 5, 6), value)) for value in (1.0, 0.0)]
    guided = Guidance(prompts[0], prompts[1], scale)
    assert torch.equal(guided.branches.tokens[:, 0, 0], torch.tensor([0.0, 1.0]))  # the prompt's is the last
    combined = guided.combine(*guided.split(torch.stack([unconditional, conditional])))
    wanted = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(combined, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODES)
def test_sampling_starts_from_the_unedited_source(name: str, moving: InvertedClip, tmp_path: Path) -> None:
    mode = MODES[name](moving, tmp_path)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    assert torch.equal(whole(start), whole(mode.source_latents_at(steps[0].timestep)))


def test_the_sources_noise_is_the_shared_one_where_the_mode_adds_that(moving: InvertedClip) -> None:
    mode = SDEdit(moving, settings.SDEdit(noise="shared"), 3)
    editing = EditDenoiser(moving.model, mode, guidance(moving))
    step = moving.model.schedule.steps(STEPS)[1]
    noise = editing.source_noise(range(len(moving.frames)), step)
    torch.testing.assert_close(noise, shared_noise(noise, 3), rtol=0, atol=1e-4)
