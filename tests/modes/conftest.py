"""What modes read: a clip of the tiny model with latents at every noise level that four steps need."""

import pytest

from tests.tiny import moving_square, tiny_backbone
from tokenflow.frames import as_tensor
from tokenflow.modes.base import Source
from tokenflow.schedule import CLEAN, add_noise, shared_noise
from tokenflow.trajectory import Trajectory

FRAMES = 5


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Five frames. A mode cannot tell an inversion from latents with noise added, which need no network."""
    backbone = tiny_backbone()
    frames = moving_square(FRAMES)
    trajectory = Trajectory(tmp_path_factory.mktemp("source"), {"clip": "test"})
    trajectory.write_frames((frame, index, 1) for index, frame in enumerate(frames))
    clean = backbone.encode(as_tensor(frames))
    trajectory.write_latents(CLEAN, [clean])
    for count in (4, 25):
        for step in backbone.schedule.steps(count):
            if not trajectory.has(step.timestep):
                noise = shared_noise(clean, seed=step.timestep)
                noisy = add_noise(clean, noise, backbone.schedule.alpha(step.timestep))
                trajectory.write_latents(step.timestep, [noisy])
    return Source(backbone, trajectory, trajectory.frames(), backbone.embed("a dog on grass"))
