import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_backbone
from tokenflow.denoise import denoise
from tokenflow.inversion import invert
from tokenflow.schedule import CLEAN, Step

CLEAN_LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def error_of_the_round_trip(refinements: int, steps_count: int = 10) -> float:
    """Mean distance of the tiny model's inversion, sampled back, from where it began."""
    backbone = tiny_backbone()
    prompt = backbone.embed("a dog")
    steps = backbone.schedule.steps(steps_count)

    def predict(latents: Tensor, timestep: int) -> Tensor:
        return backbone.predict(latents, timestep, prompt)[0]

    *_, (_, noisy) = invert(CLEAN_LATENTS, steps, predict, backbone.schedule, refinements)
    *_, restored = denoise(noisy, steps, lambda x, step: predict(x, step.timestep), backbone.schedule)
    return (restored - CLEAN_LATENTS).abs().mean().item()


def test_with_noise_that_does_not_depend_on_the_latents_sampling_is_the_exact_inverse() -> None:
    schedule = tiny_backbone().schedule
    steps = schedule.steps(25)
    noise = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    clean = CLEAN_LATENTS.double()
    *_, (_, noisy) = invert(clean, steps, lambda *_: noise, schedule)
    *_, restored = denoise(noisy, steps, lambda *_: noise, schedule)
    # Double precision, 50 steps.
    torch.testing.assert_close(restored, clean, rtol=1e-12, atol=1e-12)


def test_every_step_is_yielded_with_its_time_step_from_the_cleanest_on() -> None:
    schedule = tiny_backbone().schedule
    steps = schedule.steps(5)
    yielded = [timestep for timestep, _ in invert(CLEAN_LATENTS, steps, lambda x, _: x, schedule)]
    assert yielded == [step.timestep for step in reversed(steps)]


def test_going_on_from_any_step_gives_what_an_uninterrupted_inversion_gives() -> None:
    backbone = tiny_backbone()
    prompt = backbone.embed("a dog")
    steps = backbone.schedule.steps(6)

    def predict(latents: Tensor, timestep: int) -> Tensor:
        return backbone.predict(latents, timestep, prompt)[0]

    whole = list(invert(CLEAN_LATENTS, steps, predict, backbone.schedule, refinements=1))
    resumed = list(invert(whole[2][1], steps[:3], predict, backbone.schedule, refinements=1))
    for (timestep, latents), (expected_timestep, expected) in zip(resumed, whole[3:], strict=True):
        assert timestep == expected_timestep
        assert torch.equal(latents, expected)


def test_refinement_brings_the_round_trip_closer_to_the_identity() -> None:
    errors = [error_of_the_round_trip(refinements) for refinements in (0, 1, 3)]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2


def test_sampling_yields_once_a_step_and_ends_at_the_clean_level() -> None:
    schedule = tiny_backbone().schedule
    steps = schedule.steps(4)
    asked: list[Step] = []

    def predict(latents: Tensor, step: Step) -> Tensor:
        asked.append(step)
        return latents

    assert len(list(denoise(CLEAN_LATENTS, steps, predict, schedule))) == 4
    assert asked == list(steps)
    assert asked[-1].next_timestep == CLEAN


@pytest.mark.parametrize("refinements", [0, 1])
def test_each_step_asks_for_one_prediction_and_one_more_a_refinement(refinements: int) -> None:
    schedule = tiny_backbone().schedule
    asked: list[int] = []

    def predict(latents: Tensor, timestep: int) -> Tensor:
        asked.append(timestep)
        return latents

    list(invert(CLEAN_LATENTS, schedule.steps(4), predict, schedule, refinements))
    assert len(asked) == 4 * (1 + refinements)
