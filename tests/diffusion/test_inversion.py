from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model
from tokenflow.diffusion.inversion import Level, PredictNoise, invert
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import CLEAN, Schedule, Step, ddim_step

CLEAN_LATENTS = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def inverted(
    predict: PredictNoise, schedule: Schedule, steps: int, clean: Tensor = CLEAN_LATENTS, **how: Any
) -> list[Level]:
    """Every level, the clean one first."""
    start = (CLEAN, clean)
    return [start, *invert([start], schedule.steps(steps), predict, schedule, **{"batch_size": 2, **how})]


def sampled(noisy: Tensor, predict: PredictNoise, schedule: Schedule, steps: int) -> Tensor:
    """Sampling back from the noisiest level."""

    def noise(latents: Tensor, step: Step) -> list[tuple[list[int], Tensor]]:
        return [([frame], predict(latents[[frame]], step.timestep)) for frame in range(len(latents))]

    *_, restored = sample(noisy, schedule.steps(steps), noise, schedule)
    return restored


def tiny_predict() -> tuple[PredictNoise, Schedule]:
    model = tiny_model()
    prompt = model.encode_prompt("a dog")
    return lambda latents, timestep: model.predict(latents, timestep, prompt)[0], model.schedule


def error_of_the_round_trip(iterations: int, steps: int = 10) -> float:
    """Mean distance of the tiny model's inversion, sampled back, from where it began."""
    predict, schedule = tiny_predict()
    levels = inverted(predict, schedule, steps, iterations=iterations)
    return (sampled(levels[-1][1], predict, schedule, steps) - CLEAN_LATENTS).abs().mean().item()


def error_of_the_published_inversion(steps: int = 10) -> float:
    """The same with ε(x_s, t) in each step, as the code of Plug-and-Play and TokenFlow has it."""
    predict, schedule = tiny_predict()
    latents = CLEAN_LATENTS
    for step in reversed(schedule.steps(steps)):
        noise = predict(latents, step.timestep)
        latents = ddim_step(latents, noise, schedule.alpha(step.next_timestep), schedule.alpha(step.timestep))
    return (sampled(latents, predict, schedule, steps) - CLEAN_LATENTS).abs().mean().item()


def test_with_noise_that_does_not_depend_on_the_latents_sampling_is_the_exact_inverse() -> None:
    schedule = tiny_model().schedule
    noise = torch.randn(3, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    clean = CLEAN_LATENTS.double()
    double = partial(torch.empty, dtype=torch.float64)
    levels = inverted(lambda latents, _: noise[: len(latents)], schedule, 25, clean, batch_size=3, scratch=double)
    restored = sampled_whole(levels[-1][1], noise, schedule, 25)
    # Double precision, 50 steps.
    torch.testing.assert_close(restored, clean, rtol=1e-12, atol=1e-12)


def sampled_whole(noisy: Tensor, noise: Tensor, schedule: Schedule, steps: int) -> Tensor:
    """Sampling back with one noise for all levels."""
    everything = list(range(len(noisy)))
    double = partial(torch.empty, dtype=torch.float64)
    *_, restored = sample(noisy, schedule.steps(steps), lambda *_: [(everything, noise)], schedule, double)
    return restored


def test_every_step_is_yielded_with_its_time_step_from_the_cleanest_on() -> None:
    schedule = tiny_model().schedule
    levels = inverted(lambda x, _: x, schedule, 5)
    assert [timestep for timestep, _ in levels] == [CLEAN, *(step.timestep for step in reversed(schedule.steps(5)))]


@pytest.mark.parametrize("done", [0, 1, 2, 3, 5])
def test_going_on_from_any_step_gives_what_an_uninterrupted_inversion_gives(done: int) -> None:
    predict, schedule = tiny_predict()
    whole = inverted(predict, schedule, 6)
    rest = invert(whole[: done + 1], schedule.steps(6)[: 6 - done], predict, schedule, batch_size=2)
    for (timestep, latents), (expected_timestep, expected) in zip(rest, whole[done + 1 :], strict=True):
        assert timestep == expected_timestep
        assert torch.equal(latents, expected)


def test_iterations_bring_the_round_trip_closer_to_the_identity() -> None:
    errors = [error_of_the_round_trip(iterations) for iterations in (1, 2, 4)]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2


def test_one_iteration_comes_closer_than_the_published_inversion() -> None:
    assert error_of_the_round_trip(1) < error_of_the_published_inversion() / 2


def test_sampling_yields_once_a_step_and_ends_at_the_clean_level() -> None:
    schedule = tiny_model().schedule
    steps = schedule.steps(4)
    asked: list[Step] = []

    def predict(latents: Tensor, step: Step) -> list[tuple[list[int], Tensor]]:
        asked.append(step)
        return [([0, 2], latents[[0, 2]]), ([1], latents[[1]])]

    assert len(list(sample(CLEAN_LATENTS, steps, predict, schedule))) == 4
    assert asked == list(steps)
    assert asked[-1].next_timestep == CLEAN


@pytest.mark.parametrize("iterations", [1, 2])
def test_each_step_asks_for_a_prediction_an_iteration_and_the_second_and_the_last_for_one_more(iterations: int) -> None:
    asked: list[int] = []

    def predict(latents: Tensor, timestep: int) -> Tensor:
        asked.append(timestep)
        return latents

    schedule = tiny_model().schedule
    inverted(predict, schedule, 4, iterations=iterations, batch_size=3)
    *_, third, second, first = (asked.count(step.timestep) for step in schedule.steps(4))
    assert (first, second, third) == (iterations, iterations + 1, iterations)
    assert asked.count(schedule.steps(4)[0].timestep) == iterations + 1


def test_a_first_step_of_no_length_changes_nothing_and_is_no_past() -> None:
    """Where the schedule has no offset, its first time step is as noisy as its clean level."""
    plain = tiny_model().schedule
    schedule = Schedule({**plain._scheduler.config, "steps_offset": 0})
    levels = inverted(lambda x, _: x, schedule, 4)
    torch.testing.assert_close(levels[1][1], CLEAN_LATENTS)
    assert all(latents.isfinite().all() for _, latents in levels)
