from dataclasses import replace

import pytest
import torch

from tests.tiny import level
from tokenflow.diffusion.levels import at_level, shared_noise
from tokenflow.diffusion.parametrisation import step
from tokenflow.modes.source import InvertedClip
from tokenflow.store.memory import MemoryInversion


def test_stored_levels_are_those_of_the_inversion(source: InvertedClip) -> None:
    for each in source.inversion.levels:
        assert torch.equal(source.latents(each), source.inversion.latents(each))


@pytest.mark.parametrize("share", [0.25, 0.5, 1.5])
def test_between_levels_and_beyond_them_latents_lie_on_the_inversions_own_step(
    share: float, source: InvertedClip
) -> None:
    cleaner, noisier = source.inversion.levels[-2:]
    between = level(round(cleaner.time + share * (noisier.time - cleaner.time)))
    assert between not in source.inversion.levels
    indices = [1, 0]
    parametrisation = source.model.schedule.parametrisation
    start, end = source.latents(cleaner, indices), source.latents(noisier, indices)
    # From there, a step with the prediction that leads from the noisier level returns to the cleaner one.
    prediction = parametrisation.between(start, end, cleaner, noisier)
    back = step(parametrisation, source.latents(between, indices), prediction, between, cleaner)
    torch.testing.assert_close(back, start, rtol=0, atol=1e-4)


def test_below_the_cleanest_step_latents_lie_on_the_inversions_step_from_the_clean_ones(source: InvertedClip) -> None:
    """With one noise at all levels, whatever lies between has that noise, too."""
    clean_level, first = source.model.schedule.clean, level(251)
    clean = source.latents(clean_level)
    noise = shared_noise(clean, seed=0)
    inversion = MemoryInversion()
    inversion.write_frames((frame, 0, 1) for frame in source.frames)
    # Stable Diffusion's final level is not quite clean.
    inversion.write_latents(clean_level, [at_level(clean, noise, clean_level)])
    inversion.write_latents(first, [at_level(clean, noise, first)])
    between = replace(source, inversion=inversion).latents(level(100))
    torch.testing.assert_close(between, at_level(clean, noise, level(100)), rtol=0, atol=1e-5)
