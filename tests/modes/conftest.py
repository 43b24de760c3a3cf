"""A clip of the tiny model with latents at every noise level that 4 and 25 steps need."""

import pytest

from tests.tiny import moving_square, tiny_model
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.levels import at_level, shared_noise
from tokenflow.modes.source import InvertedClip
from tokenflow.store.memory import MemoryInversion
from tokenflow.video import Video

FRAMES = 5


@pytest.fixture(scope="session")
def source() -> InvertedClip:
    """Five frames. To a mode, latents with noise added are as good as an inversion, and need no network."""
    model = tiny_model()
    clip = Video(moving_square(FRAMES), rate=1)
    inversion = MemoryInversion()
    inversion.write_frames((frame.image, frame.source_time, frame.duration) for frame in clip)
    clean = model.encode(as_tensor(clip.frames))
    inversion.write_latents(model.schedule.clean, [clean])
    for count in (4, 25):
        for step in model.schedule.steps(count):
            if step.at not in inversion.levels:
                inversion.write_latents(
                    step.at, [at_level(clean, shared_noise(clean, seed=int(step.at.time)), step.at)]
                )
    prompt = "a dog on grass"
    return InvertedClip(model, inversion, model.condition(prompt), prompt, clip, "fit", 4)
