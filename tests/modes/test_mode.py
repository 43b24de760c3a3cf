from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tokenflow.diffusion.schedules import CLEAN, add_noise, ddim_step, shared_noise
from tokenflow.modes.mode import InvertedClip
from tokenflow.store.inversions import StoredInversion


def test_stored_levels_are_what_the_inversion_wrote(source: InvertedClip) -> None:
    for timestep in source.trajectory.timesteps:
        assert torch.equal(source.latents(timestep), source.trajectory.latents(timestep))


@pytest.mark.parametrize("share", [0.25, 0.5, 1.5])
def test_between_levels_and_beyond_them_latents_lie_on_the_inversions_own_step(
    share: float, source: InvertedClip
) -> None:
    cleaner, noisier = source.trajectory.timesteps[-2:]
    timestep = round(cleaner + share * (noisier - cleaner))
    alpha = source.model.schedule.alpha
    assert not source.trajectory.has(timestep)
    between = source.latents(timestep, [1, 0])
    # From there, one step of sampling with the noise that leads on to the noisier level comes back to the cleaner one.
    sigma = {level: ((1 - alpha(level)) / alpha(level)) ** 0.5 for level in (cleaner, noisier, timestep)}
    scaled = {level: source.latents(level, [1, 0]) / alpha(level) ** 0.5 for level in (cleaner, noisier)}
    noise = (scaled[noisier] - scaled[cleaner]) / (sigma[noisier] - sigma[cleaner])
    back = ddim_step(between, noise, alpha(timestep), alpha(cleaner))
    torch.testing.assert_close(back, source.latents(cleaner, [1, 0]), rtol=0, atol=1e-4)


def test_below_the_cleanest_step_latents_lie_on_the_inversions_step_from_the_clean_ones(
    source: InvertedClip, tmp_path: Path
) -> None:
    """With one noise in all levels, whatever lies between has that noise too."""
    first, alpha = 251, source.model.schedule.alpha
    clean = source.latents(CLEAN)
    noise = shared_noise(clean, seed=0)
    trajectory = StoredInversion(tmp_path, {"clip": "test"})
    trajectory.write_frames((frame, 0, 1) for frame in source.frames[range(len(clean))])
    # The schedule's final level is not quite clean.
    trajectory.write_latents(CLEAN, [add_noise(clean, noise, alpha(CLEAN))])
    trajectory.write_latents(first, [add_noise(clean, noise, alpha(first))])
    between = replace(source, trajectory=trajectory).latents(100)
    torch.testing.assert_close(between, add_noise(clean, noise, alpha(100)), rtol=0, atol=1e-5)
