from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model
from tokenflow.diffusion.inversion import LatentsAt, PredictAt, invert_latents, stored_dtype_after
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import DiffusionSchedule, Schedule, Step

CLEAN_LATENTS = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def inverted(
    predict: PredictAt, schedule: Schedule, steps: int, clean: Tensor = CLEAN_LATENTS, **options: Any
) -> list[LatentsAt]:
    """Every level, the clean one first."""
    start = (schedule.clean, clean)
    options = {"batch_size": 2, **options}
    return [start, *invert_latents([start], schedule.steps(steps), predict, schedule.parametrisation, **options)]


def sampled(noisy: Tensor, predict: PredictAt, schedule: Schedule, steps: int) -> Tensor:
    """Sampling back from the noisiest level."""

    def frame_by_frame(latents: Tensor, step: Step) -> list[tuple[list[int], Tensor]]:
        return [([index], predict(latents[[index]], step.at)) for index in range(len(latents))]

    *_, restored = sample(noisy, schedule.steps(steps), frame_by_frame, schedule.parametrisation)
    return restored


def tiny_predict(**model: Any) -> tuple[PredictAt, Schedule]:
    tiny = tiny_model(**model)
    prompt = tiny.condition("a dog")
    return lambda latents, level: tiny.predict(latents, level, prompt)[0], tiny.schedule


def round_trip_error(iterations: int, steps: int = 10, **model: Any) -> float:
    """Mean distance of the tiny model's inversion, sampled back, from where it began."""
    predict, schedule = tiny_predict(**model)
    levels = inverted(predict, schedule, steps, iterations=iterations)
    return (sampled(levels[-1][1], predict, schedule, steps) - CLEAN_LATENTS).abs().mean().item()


def published_round_trip_error(steps: int = 10, **model: Any) -> float:
    """The same with p(x_s, t) in each step, as in the code of Plug-and-Play and TokenFlow."""
    predict, schedule = tiny_predict(**model)
    latents = CLEAN_LATENTS
    for step in reversed(schedule.steps(steps)):
        latents = schedule.parametrisation.step_back(latents, predict(latents, step.at), step.to, step.at)
    return (sampled(latents, predict, schedule, steps) - CLEAN_LATENTS).abs().mean().item()


def test_with_a_prediction_that_does_not_depend_on_the_latents_sampling_is_the_exact_inverse() -> None:
    schedule = tiny_model().schedule
    noise = torch.randn(3, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    clean, double = CLEAN_LATENTS.double(), partial(torch.empty, dtype=torch.float64)
    levels = inverted(lambda latents, _: noise[: len(latents)], schedule, 25, clean, batch_size=3, scratch=double)
    everything = list(range(len(noise)))
    *_, restored = sample(
        levels[-1][1], schedule.steps(25), lambda *_: [(everything, noise)], schedule.parametrisation, double
    )
    # Double precision, 50 steps.
    torch.testing.assert_close(restored, clean, rtol=1e-12, atol=1e-12)


def test_levels_behind_the_first_are_what_float16_stores_and_hardly_differ() -> None:
    predict, schedule = tiny_predict()
    exact = inverted(predict, schedule, 10)
    rounded = inverted(predict, schedule, 10, dtype_after=stored_dtype_after)
    assert torch.equal(exact[1][1], rounded[1][1])  # the first noisy level
    for (_, latents), (_, before) in zip(rounded[2:], exact[2:], strict=True):
        assert torch.equal(latents, latents.half().float())
        # Half a unit in the last of 11 binary digits per level, of latents up to 4.
        torch.testing.assert_close(latents, before, rtol=0, atol=10 * 4 * 2**-12)


def test_every_level_is_yielded_from_the_cleanest_on() -> None:
    schedule = tiny_model().schedule
    levels = inverted(lambda x, _: x, schedule, 5)
    assert [level for level, _ in levels] == [schedule.clean, *(step.at for step in reversed(schedule.steps(5)))]


@pytest.mark.parametrize("done", [0, 1, 2, 3, 5])
def test_continuing_from_any_level_gives_what_an_uninterrupted_inversion_gives(done: int) -> None:
    predict, schedule = tiny_predict()
    whole = inverted(predict, schedule, 6)
    steps = schedule.steps(6)[: 6 - done]
    rest = invert_latents(whole[: done + 1], steps, predict, schedule.parametrisation, batch_size=2)
    for (level, latents), (expected_level, expected) in zip(rest, whole[done + 1 :], strict=True):
        assert level == expected_level
        assert torch.equal(latents, expected)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_iterations_bring_the_round_trip_closer_to_the_identity(prediction_type: str) -> None:
    errors = [round_trip_error(iterations, prediction_type=prediction_type) for iterations in (1, 2, 4)]
    float32 = 1e-6  # what rounding leaves of an exact inverse
    assert errors[1] < errors[0] / 2
    assert errors[2] < max(errors[1] / 2, float32)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_one_iteration_is_more_exact_than_the_published_inversion(prediction_type: str) -> None:
    ours = round_trip_error(1, prediction_type=prediction_type)
    assert ours < published_round_trip_error(prediction_type=prediction_type) / 2


def test_a_model_with_zero_terminal_snr_is_inverted_to_pure_noise_and_back() -> None:
    model: dict[str, Any] = {"prediction_type": "v_prediction", "zero_terminal_snr": True}
    predict, schedule = tiny_predict(**model)
    levels = inverted(predict, schedule, 10, iterations=6)
    noisiest, latents = levels[-1]
    assert noisiest.signal == 0
    assert latents.isfinite().all()
    restored = sampled(latents, predict, schedule, 10)
    # Six fixed-point iterations per step.
    torch.testing.assert_close(restored, CLEAN_LATENTS, rtol=0, atol=2e-2)


def test_sampling_yields_once_per_step_and_ends_at_the_clean_level() -> None:
    schedule = tiny_model().schedule
    steps = schedule.steps(4)
    asked: list[Step] = []

    def predict(latents: Tensor, step: Step) -> list[tuple[list[int], Tensor]]:
        asked.append(step)
        return [([0, 2], latents[[0, 2]]), ([1], latents[[1]])]

    assert len(list(sample(CLEAN_LATENTS, steps, predict, schedule.parametrisation))) == 4
    assert asked == list(steps)
    assert asked[-1].to == schedule.clean


@pytest.mark.parametrize("iterations", [1, 2])
def test_each_step_takes_a_network_call_per_iteration_and_the_second_and_the_noisiest_one_more(
    iterations: int,
) -> None:
    asked: list[Level] = []

    def predict(latents: Tensor, level: Level) -> Tensor:
        asked.append(level)
        return latents

    schedule = tiny_model().schedule
    inverted(predict, schedule, 4, iterations=iterations, batch_size=3)
    *_, third, second, first = (asked.count(step.at) for step in schedule.steps(4))
    assert (first, second, third) == (iterations, iterations + 1, iterations)
    assert asked.count(schedule.steps(4)[0].at) == iterations + 1


def test_a_first_step_of_no_length_changes_nothing_and_is_not_extrapolated_from() -> None:
    """Without an offset, the first time step of the schedule is as noisy as its clean level."""
    schedule = DiffusionSchedule(
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "set_alpha_to_one": False,
            "steps_offset": 0,
        }
    )
    levels = inverted(lambda x, _: x, schedule, 4)
    torch.testing.assert_close(levels[1][1], CLEAN_LATENTS)
    assert all(latents.isfinite().all() for _, latents in levels)
