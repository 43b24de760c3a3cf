"""The algebra of a step for noise, velocity and flow prediction."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenflow.diffusion.levels import Level, at_level
from tokenflow.diffusion.parametrisation import (
    FlowPrediction,
    NoisePrediction,
    Parametrisation,
    VelocityPrediction,
    step,
)


def diffusion_level(angle: float) -> Level:
    """A variance-preserving level: a = cos, b = sin."""
    return Level(math.cos(angle), math.sin(angle), angle)


def flow_level(share: float) -> Level:
    return Level(1 - share, share, share)


FAMILIES = [
    (NoisePrediction(), diffusion_level, math.pi / 2 * 0.95),
    (VelocityPrediction(), diffusion_level, math.pi / 2),
    (FlowPrediction(), flow_level, 1.0),
]
"""A parametrisation, its levels, and the noisiest of them at which its prediction says something."""


def gaussian(seed: int) -> Tensor:
    return torch.randn(1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact_prediction(parametrisation: Parametrisation, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
    """What a perfect network would predict, from the definitions."""
    match parametrisation:
        case NoisePrediction():
            return noise
        case VelocityPrediction():
            return level.signal * noise - level.noise * clean
        case _:
            return noise - clean


@pytest.mark.parametrize(("parametrisation", "level_at", "noisiest"), FAMILIES)
@given(share=st.floats(0.01, 1), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_a_perfect_prediction_gives_the_clean_latents_and_the_noise(
    parametrisation: Parametrisation, level_at, noisiest: float, share: float, seed: int
) -> None:
    clean, noise, level = gaussian(seed), gaussian(seed + 1), level_at(share * noisiest)
    latents = at_level(clean, noise, level)
    prediction = exact_prediction(parametrisation, clean, noise, level)
    # Double precision; noise prediction divides by a signal of 0.08 at least.
    torch.testing.assert_close(parametrisation.clean(latents, prediction, level), clean, rtol=0, atol=1e-12)
    torch.testing.assert_close(parametrisation.noise(latents, prediction, level), noise, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("parametrisation", "level_at", "noisiest"), FAMILIES)
@given(shares=st.tuples(st.floats(0, 0.98), st.floats(0.01, 1)), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_a_step_back_is_the_inverse_of_a_step_with_the_same_prediction(
    parametrisation: Parametrisation, level_at, noisiest: float, shares: tuple[float, float], seed: int
) -> None:
    cleaner, noisier = (level_at(share * noisiest) for share in (min(shares), max(shares)))
    latents, prediction = gaussian(seed), gaussian(seed + 1)
    back = parametrisation.step_back(latents, prediction, cleaner, noisier)
    cosine = cleaner.signal * noisier.signal + cleaner.noise * noisier.noise
    # Velocity is divided by the cosine of the angle between the levels.
    tolerance = 1e-12 / max(cosine, 1e-3)
    torch.testing.assert_close(
        step(parametrisation, back, prediction, noisier, cleaner), latents, rtol=0, atol=max(tolerance, 1e-11)
    )


@pytest.mark.parametrize(("parametrisation", "level_at", "noisiest"), FAMILIES)
@given(shares=st.tuples(st.floats(0, 0.45), st.floats(0.5, 1)), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_the_prediction_between_two_levels_is_the_one_that_leads_from_one_to_the_other(
    parametrisation: Parametrisation, level_at, noisiest: float, shares: tuple[float, float], seed: int
) -> None:
    cleaner, noisier = (level_at(share * noisiest) for share in shares)
    latents, prediction = gaussian(seed), gaussian(seed + 1)
    moved = step(parametrisation, latents, prediction, noisier, cleaner)
    found = parametrisation.between(moved, latents, cleaner, noisier)
    torch.testing.assert_close(found, prediction, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("parametrisation", "level_at", "noisiest"), FAMILIES)
def test_between_levels_of_equal_noise_the_prediction_is_zero(
    parametrisation: Parametrisation, level_at, noisiest: float
) -> None:
    latents, level = gaussian(0), level_at(0.5 * noisiest)
    assert torch.equal(parametrisation.between(latents, latents, level, level), torch.zeros_like(latents))


@pytest.mark.parametrize(("parametrisation", "level_at", "noisiest"), FAMILIES)
def test_the_coordinate_grows_with_the_noise_and_is_finite(
    parametrisation: Parametrisation, level_at, noisiest: float
) -> None:
    coordinates = [parametrisation.coordinate(level_at(share * noisiest)) for share in (0.01, 0.3, 0.6, 0.9, 1.0)]
    assert coordinates == sorted(coordinates)
    assert all(map(math.isfinite, coordinates))


def test_at_pure_noise_a_velocity_is_minus_the_clean_latents() -> None:
    pure, velocity = Level(0.0, 1.0, 999), gaussian(1)
    latents = gaussian(0)
    assert torch.equal(VelocityPrediction().clean(latents, velocity, pure), -velocity)
    assert torch.equal(VelocityPrediction().noise(latents, velocity, pure), latents)
