import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenflow.diffusion.schedules import CLEAN, Schedule, add_noise, ddim_step, noise_between, shared_noise
from tokenflow.errors import ConfigError, ModelError

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def diffusers_scheduler(**changes: object) -> DDIMScheduler:
    return DDIMScheduler(**{**STABLE_DIFFUSION, **changes})


def noise_like(latents: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed), dtype=latents.dtype)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("count", [1, 7, 25, 50])
def test_time_steps_are_diffusers_own(spacing: str, count: int) -> None:
    reference = diffusers_scheduler(timestep_spacing=spacing)
    reference.set_timesteps(count)
    steps = Schedule(reference.config).steps(count)
    assert [step.timestep for step in steps] == reference.timesteps.tolist()
    assert [step.next_timestep for step in steps] == [*reference.timesteps.tolist()[1:], CLEAN]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_every_sampling_step_is_diffusers_ddim_step(prediction_type: str) -> None:
    reference = diffusers_scheduler(prediction_type=prediction_type)
    reference.set_timesteps(25)
    schedule = Schedule(reference.config)
    latents = noise_like(torch.empty(2, 4, 8, 8, dtype=torch.float64), 0)
    for step in schedule.steps(25):
        output = noise_like(latents, 1 + step.index)
        expected = reference.step(output, step.timestep, latents).prev_sample
        noise = schedule.noise(output, latents, step.timestep)
        moved = ddim_step(latents, noise, schedule.alpha(step.timestep), schedule.alpha(step.next_timestep))
        # Same arithmetic in double precision; diffusers' table of ᾱ is float32 in both.
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-6)
        latents = expected


def test_every_inversion_step_is_diffusers_inverse_step() -> None:
    reference = DDIMInverseScheduler.from_config(diffusers_scheduler().config)
    reference.set_timesteps(25)
    schedule = Schedule(diffusers_scheduler().config)
    latents = noise_like(torch.empty(2, 4, 8, 8, dtype=torch.float64), 0)
    for step, timestep in zip(reversed(schedule.steps(25)), reference.timesteps.tolist(), strict=True):
        noise = noise_like(latents, 1 + step.index)
        expected = reference.step(noise, timestep, latents).prev_sample
        moved = ddim_step(latents, noise, schedule.alpha(step.next_timestep), schedule.alpha(step.timestep))
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-6)
        latents = expected


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_a_step_there_and_back_with_the_same_noise_changes_nothing(alpha: float, other: float, seed: int) -> None:
    latents = noise_like(torch.empty(1, 4, 2, 2, dtype=torch.float64), seed)
    noise = noise_like(latents, seed + 1)
    back = ddim_step(ddim_step(latents, noise, alpha, other), noise, other, alpha)
    # Both square roots of ᾱ are at least 0.1, so double precision keeps 13 digits.
    torch.testing.assert_close(back, latents, rtol=1e-12, atol=1e-12)


def test_a_step_of_exact_noise_leads_to_the_same_clean_latents() -> None:
    clean = noise_like(torch.empty(1, 4, 2, 2, dtype=torch.float64), 0)
    noise = noise_like(clean, 1)
    moved = ddim_step(add_noise(clean, noise, 0.2), noise, 0.2, 0.7)
    torch.testing.assert_close(moved, add_noise(clean, noise, 0.7), rtol=1e-12, atol=1e-12)


def test_the_noise_between_two_levels_is_the_one_that_the_step_took() -> None:
    cleaner, noise = torch.randn(2, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noisier = ddim_step(cleaner, noise, 0.9, 0.2)
    torch.testing.assert_close(noise_between(cleaner, noisier, 0.9, 0.2), noise, rtol=0, atol=1e-12)


def test_between_equal_levels_there_is_no_noise() -> None:
    latents = torch.ones(1, 4, 8, 8)
    assert torch.equal(noise_between(latents, latents, 0.5, 0.5), torch.zeros_like(latents))


def test_shared_noise_is_one_gaussian_for_all_frames() -> None:
    noise = shared_noise(torch.zeros(5, 4, 32, 32), seed=3)
    assert torch.equal(noise[0], noise[4])
    assert abs(noise[0].std().item() - 1) < 0.05
    assert not torch.equal(noise, shared_noise(torch.zeros(5, 4, 32, 32), seed=4))


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_count_of_steps_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 1000"):
        Schedule(STABLE_DIFFUSION).steps(count)


def test_a_count_that_the_offset_leads_beyond_the_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"steps is 1000, .*; take one less"):
        Schedule(STABLE_DIFFUSION).steps(1000)
    assert Schedule({**STABLE_DIFFUSION, "steps_offset": 0}).steps(1000)[0].timestep == 999


def test_an_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ModelError, match="prediction_type"):
        Schedule({**STABLE_DIFFUSION, "prediction_type": "flow"})


def test_the_first_part_of_the_steps_has_the_length_of_its_fraction() -> None:
    steps = Schedule(STABLE_DIFFUSION).steps(25)
    assert sum(step.is_before(0.8) for step in steps) == 20
    assert not any(step.is_before(0.0) for step in steps)
    assert all(step.is_before(1.0) for step in steps)
