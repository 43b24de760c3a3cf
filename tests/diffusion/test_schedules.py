"""Levels and steps beside diffusers' own schedulers."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    SCMScheduler,
    UniPCMultistepScheduler,
)

from tokenflow.diffusion.few_step import few_step_of
from tokenflow.diffusion.levels import CLEAN_TIME
from tokenflow.diffusion.parametrisation import NoisePrediction, VelocityPrediction, step
from tokenflow.diffusion.schedules import DiffusionSchedule, FlowSchedule, SanaSchedule, SprintSchedule, last_steps
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

BETAS = {name: STABLE_DIFFUSION[name] for name in ("beta_start", "beta_end", "beta_schedule")}

TURBO = {**BETAS, "prediction_type": "epsilon", "timestep_spacing": "trailing"}

ZERO_TERMINAL = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}

FLUX = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def ddim(**changes: object) -> DDIMScheduler:
    return DDIMScheduler(**{**STABLE_DIFFUSION, **changes})


def gaussian(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("count", [1, 7, 25, 50])
def test_time_steps_are_those_of_diffusers(spacing: str, count: int) -> None:
    reference = ddim(timestep_spacing=spacing)
    reference.set_timesteps(count)
    steps = DiffusionSchedule(reference.config).steps(count)
    assert [each.at.time for each in steps] == reference.timesteps.tolist()
    assert [each.to.time for each in steps] == [*reference.timesteps.tolist()[1:], CLEAN_TIME]


@pytest.mark.parametrize(
    "changes", [{}, {"prediction_type": "v_prediction"}, ZERO_TERMINAL], ids=["noise", "velocity", "zero terminal SNR"]
)
def test_every_sampling_step_is_that_of_diffusers_ddim(changes: dict[str, object]) -> None:
    reference = ddim(**changes)
    reference.set_timesteps(25)
    schedule = DiffusionSchedule(reference.config)
    latents = gaussian(0)
    for each in schedule.steps(25):
        output = gaussian(1 + each.index)
        expected = reference.step(output, int(each.at.time), latents).prev_sample
        moved = step(schedule.parametrisation, latents, output, each.at, each.to)
        # The same arithmetic in double precision; diffusers keeps ᾱ in float32 and takes its square root there.
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-6)
        latents = expected


def test_every_inversion_step_is_that_of_diffusers_inverse_scheduler() -> None:
    reference = DDIMInverseScheduler.from_config(ddim().config)
    reference.set_timesteps(25)
    schedule = DiffusionSchedule(ddim().config)
    latents = gaussian(0)
    for each, timestep in zip(reversed(schedule.steps(25)), reference.timesteps.tolist(), strict=True):
        noise = gaussian(1 + each.index)
        expected = reference.step(noise, timestep, latents).prev_sample
        moved = schedule.parametrisation.step_back(latents, noise, each.to, each.at)
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-6)
        latents = expected


@pytest.mark.parametrize("count", [1, 4, 28])
@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_every_step_of_a_flow_is_that_of_diffusers_euler_scheduler(count: int, tokens: int) -> None:
    reference = FlowMatchEulerDiscreteScheduler(**FLUX)
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    reference.set_timesteps(sigmas=np.linspace(1.0, 1 / count, count), mu=mu)
    schedule = FlowSchedule(reference.config)
    steps = schedule.steps(count, tokens)
    # diffusers keeps its levels in float32.
    np.testing.assert_allclose([each.at.time for each in steps], reference.timesteps.tolist(), rtol=1e-5)
    latents = gaussian(0).float()
    for each, timestep in zip(steps, reference.timesteps, strict=True):
        output = gaussian(1 + each.index).float()
        expected = reference.step(output, timestep, latents).prev_sample
        moved = step(schedule.parametrisation, latents, output, each.at, each.to)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)
        latents = expected


def test_a_static_shift_is_applied_once() -> None:
    reference = FlowMatchEulerDiscreteScheduler(shift=3.0)
    reference.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    levels = [each.at.noise for each in FlowSchedule({"shift": 3.0}).steps(4)]
    np.testing.assert_allclose(levels, reference.sigmas[:-1].tolist(), rtol=1e-6)


def test_a_flow_whose_levels_depend_on_tokens_asks_for_them() -> None:
    with pytest.raises(ValueError, match="number of tokens"):
        FlowSchedule(FLUX).steps(4)


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_number_of_steps_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 1000"):
        DiffusionSchedule(STABLE_DIFFUSION).steps(count)


def test_a_number_of_steps_that_the_offset_leads_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"steps is 1000, .*; use one less"):
        DiffusionSchedule(STABLE_DIFFUSION).steps(1000)
    assert DiffusionSchedule({**STABLE_DIFFUSION, "steps_offset": 0}).steps(1000)[0].at.time == 999


def test_an_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ModelError, match="prediction_type"):
        DiffusionSchedule({**STABLE_DIFFUSION, "prediction_type": "flow"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timestep_spacing": "nonsense"}, "timestep_spacing 'nonsense'; expected one of leading, linspace, trailing"),
        ({"beta_schedule": "nonsense"}, "are unusable; expected numbers, and as beta_schedule linear, scaled_linear"),
        ({"beta_start": "a"}, "are unusable; expected numbers"),
    ],
)
def test_a_malformed_configuration_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        DiffusionSchedule({**STABLE_DIFFUSION, **changes})


@pytest.mark.parametrize(
    "scheduler",
    [
        EDMDPMSolverMultistepScheduler(),
        EDMEulerScheduler(),
        FlowMatchEulerDiscreteScheduler(),
        UniPCMultistepScheduler(**BETAS, use_flow_sigmas=True),
        EulerDiscreteScheduler(**BETAS, timestep_type="continuous", prediction_type="v_prediction"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_levels_that_no_betas_describe_are_refused(scheduler: Any) -> None:
    with pytest.raises(
        ModelError, match=rf"levels of the model's scheduler \({type(scheduler).__name__}\) are not given"
    ):
        DiffusionSchedule({"_class_name": type(scheduler).__name__, **scheduler.config})


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_models_that_come_with_euler_are_sampled_as_by_euler(spacing: str, kind: str) -> None:
    reference = EulerDiscreteScheduler(**BETAS, timestep_spacing=spacing, prediction_type=kind)
    reference.set_timesteps(4)
    schedule = DiffusionSchedule(reference.config)
    expected = gaussian(0) * reference.init_noise_sigma
    latents = reference.scale_model_input(expected, reference.timesteps[0])  # from x₀ + σ·n to a·x₀ + b·n
    for timestep, each in zip(reference.timesteps, schedule.steps(4), strict=True):
        assert each.at.time == timestep
        output = 0.5 * torch.tanh(reference.scale_model_input(expected, timestep))
        expected = reference.step(output, timestep, expected).prev_sample
        latents = step(schedule.parametrisation, latents, 0.5 * torch.tanh(latents), each.at, each.to)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-4)


def test_noise_prediction_from_pure_noise_is_refused() -> None:
    schedule = DiffusionSchedule({**STABLE_DIFFUSION, **ZERO_TERMINAL, "prediction_type": "epsilon"})
    with pytest.raises(ModelError, match="expected v_prediction"):
        schedule.steps(4)


def test_what_is_predicted_follows_the_schedulers_configuration() -> None:
    assert isinstance(DiffusionSchedule(STABLE_DIFFUSION).parametrisation, NoisePrediction)
    velocity = DiffusionSchedule({**STABLE_DIFFUSION, "prediction_type": "v_prediction"})
    assert isinstance(velocity.parametrisation, VelocityPrediction)


def test_a_step_counts_if_it_lies_whole_within_a_fraction_of_all_steps() -> None:
    steps = DiffusionSchedule(STABLE_DIFFUSION).steps(25)
    assert sum(each.ends_by(0.8) for each in steps) == 20
    assert sum(each.ends_by(0.75) for each in steps) == 18
    assert not any(each.ends_by(0.0) for each in steps)
    assert all(each.ends_by(1.0) for each in steps)


@pytest.mark.parametrize(("count", "start", "end"), [(10, 0.25, 0.75), (10, 0.0, 0.5), (25, 0.2, 0.6), (7, 0.5, 1.0)])
def test_between_two_fractions_lie_the_steps_at_which_diffusers_keeps_a_controlnet(
    count: int, start: float, end: float
) -> None:
    """StableDiffusionControlNetPipeline's `controlnet_keep`."""
    expected = [not (index / count < start or (index + 1) / count > end) for index in range(count)]
    steps = DiffusionSchedule(STABLE_DIFFUSION).steps(count)
    assert [each.starts_from(start) and each.ends_by(end) for each in steps] == expected


@pytest.mark.parametrize(("count", "strength"), [(10, 0.75), (25, 0.75), (25, 0.6), (50, 0.8), (4, 1.0), (7, 0.5)])
def test_the_last_steps_are_those_that_diffusers_image_to_image_takes(count: int, strength: float) -> None:
    """StableDiffusionImg2ImgPipeline.get_timesteps."""
    steps = DiffusionSchedule(STABLE_DIFFUSION).steps(count)
    first = max(count - min(int(count * strength), count), 0)
    assert list(last_steps(steps, strength)) == list(steps[first:])


def test_of_the_smallest_share_one_step_is_left() -> None:
    steps = DiffusionSchedule(STABLE_DIFFUSION).steps(25)
    assert list(last_steps(steps, 1e-9)) == [steps[-1]]


@pytest.mark.parametrize("count", [1, 2, 4, 18, 20, 25, 50, 1000])
@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0])
def test_sanas_levels_and_times_are_those_of_its_solver(count: int, shift: float) -> None:
    solver = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    solver.set_timesteps(count)
    for config in (solver.config, {"shift": shift}):
        steps = SanaSchedule(config).steps(count)
        np.testing.assert_allclose([step.at.noise for step in steps], solver.sigmas[:-1], rtol=1e-6)
        assert [step.at.time for step in steps] == solver.timesteps.tolist()
        assert [step.at.signal for step in steps] == [1 - step.at.noise for step in steps]
        assert steps[-1].to == SanaSchedule.clean


def test_sana_may_be_told_another_time_than_its_scheduler() -> None:
    steps = SanaSchedule({"flow_shift": 3.0}, time_scale=0.001).steps(4)
    assert [step.at.time for step in steps] == pytest.approx([0.999, 0.899, 0.749, 0.499])


@pytest.mark.parametrize("count", [0, 1001])
def test_sana_refuses_a_number_of_steps_out_of_range(count: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 1000"):
        SanaSchedule({}).steps(count)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_sprints_levels_are_its_schedulers_angles_in_the_coordinate_of_flows(count: int) -> None:
    scheduler = SCMScheduler()
    scheduler.set_timesteps(count, intermediate_timesteps=1.3 if count == 2 else None)
    angles = scheduler.timesteps[:-1].double()
    shares = angles.sin() / (angles.sin() + angles.cos())
    steps = SprintSchedule(scheduler.config).steps(count)
    np.testing.assert_allclose([step.at.time for step in steps], shares, rtol=1e-6)
    np.testing.assert_allclose([step.at.noise for step in steps], shares.clamp_max(1), rtol=1e-6)
    assert all(step.at.signal + step.at.noise == pytest.approx(1) for step in steps)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_consistency_models_are_called_at_time_steps_that_they_learnt(count: int) -> None:
    scheduler = LCMScheduler(**BETAS)
    scheduler.set_timesteps(count)
    steps = DiffusionSchedule(scheduler.config, few_step_of(type(scheduler).__name__, scheduler.config)).steps(count)
    assert [step.at.time for step in steps] == scheduler.timesteps.tolist()
    assert (steps[-1].to.signal, steps[-1].to.noise) == (1.0, 0.0)
    with pytest.raises(ConfigError, match="expected 1 to 50"):
        DiffusionSchedule(scheduler.config, few_step_of(type(scheduler).__name__, scheduler.config)).steps(51)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_distilled_models_are_called_at_the_time_steps_of_their_schedulers(count: int) -> None:
    scheduler = EulerDiscreteScheduler(**TURBO)
    scheduler.set_timesteps(count)
    steps = DiffusionSchedule(scheduler.config, few_step_of(type(scheduler).__name__, scheduler.config)).steps(count)
    assert [step.at.time for step in steps] == scheduler.timesteps.tolist()
    assert (steps[-1].to.signal, steps[-1].to.noise) == (1.0, 0.0)
