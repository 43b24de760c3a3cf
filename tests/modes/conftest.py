"""What modes read: a clip of the tiny model with latents at every noise level that four steps need."""

import pytest

from tests.tiny import moving_square, tiny_model
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.schedules import CLEAN, add_noise, shared_noise
from tokenflow.modes.mode import InvertedClip
from tokenflow.store.inversions import StoredInversion

FRAMES = 5


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> InvertedClip:
    """Five frames. A mode cannot tell an inversion from latents with noise added, which need no network."""
    model = tiny_model()
    frames = moving_square(FRAMES)
    trajectory = StoredInversion(tmp_path_factory.mktemp("source"), {"clip": "test"})
    trajectory.write_frames((frame, index, 1) for index, frame in enumerate(frames))
    clean = model.encode(as_tensor(frames))
    trajectory.write_latents(CLEAN, [clean])
    for count in (4, 25):
        for step in model.schedule.steps(count):
            if not trajectory.has(step.timestep):
                noise = shared_noise(clean, seed=step.timestep)
                noisy = add_noise(clean, noise, model.schedule.alpha(step.timestep))
                trajectory.write_latents(step.timestep, [noisy])
    return InvertedClip(model, trajectory, trajectory.frames(), model.encode_prompt("a dog on grass"))
