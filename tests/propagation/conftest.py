"""What propagation is tested on: clips of the tiny model, inverted until sampling is the exact inverse."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from tests.tiny import moving_square, tiny_backbone
from tokenflow.frames import as_tensor
from tokenflow.inversion import invert
from tokenflow.modes.base import Source
from tokenflow.schedule import CLEAN
from tokenflow.trajectory import Trajectory

STEPS = 4


@pytest.fixture(scope="package")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return inverted(moving_square(11), tmp_path_factory.mktemp("moving"))


@pytest.fixture(scope="package")
def still(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return inverted(np.repeat(moving_square(1), 7, axis=0), tmp_path_factory.mktemp("still"))


def inverted(frames: np.ndarray, folder: Path) -> Source:
    """A clip with its trajectory, refined until sampling is the exact inverse."""
    backbone = tiny_backbone()
    prompt = backbone.embed("a dog on grass")
    trajectory = Trajectory(folder, {"clip": "test"})
    trajectory.write_frames((frame, index, 1) for index, frame in enumerate(frames))
    latents = backbone.encode(as_tensor(frames))
    trajectory.write_latents(CLEAN, [latents])
    steps = backbone.schedule.steps(STEPS)

    def predict(latents: Tensor, timestep: int) -> Tensor:
        return backbone.predict(latents, timestep, prompt)[0]

    for timestep, noisier in invert([(CLEAN, latents)], steps, predict, backbone.schedule, batch_size=4, iterations=20):
        trajectory.write_latents(timestep, [noisier])
    return Source(backbone, trajectory, trajectory.frames(), prompt)
