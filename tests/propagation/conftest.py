"""What propagation is tested on: clips of the tiny model, inverted until sampling is the exact inverse."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from tests.tiny import moving_square, tiny_model
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.inversion import invert
from tokenflow.diffusion.schedules import CLEAN
from tokenflow.modes.mode import InvertedClip
from tokenflow.store.inversions import StoredInversion

STEPS = 4


@pytest.fixture(scope="package")
def moving(tmp_path_factory: pytest.TempPathFactory) -> InvertedClip:
    return inverted(moving_square(11), tmp_path_factory.mktemp("moving"))


@pytest.fixture(scope="package")
def still(tmp_path_factory: pytest.TempPathFactory) -> InvertedClip:
    return inverted(np.repeat(moving_square(1), 7, axis=0), tmp_path_factory.mktemp("still"))


def inverted(frames: np.ndarray, folder: Path) -> InvertedClip:
    """A clip with its trajectory, refined until sampling is the exact inverse."""
    model = tiny_model()
    prompt = model.encode_prompt("a dog on grass")
    trajectory = StoredInversion(folder, {"clip": "test"})
    trajectory.write_frames((frame, index, 1) for index, frame in enumerate(frames))
    latents = model.encode(as_tensor(frames))
    trajectory.write_latents(CLEAN, [latents])
    steps = model.schedule.steps(STEPS)

    def predict(latents: Tensor, timestep: int) -> Tensor:
        return model.predict(latents, timestep, prompt)[0]

    for timestep, noisier in invert([(CLEAN, latents)], steps, predict, model.schedule, batch_size=4, iterations=20):
        trajectory.write_latents(timestep, [noisier])
    return InvertedClip(model, trajectory, trajectory.frames(), prompt)
