"""The rewriting of the published structure: a still clip is predicted frame by frame, and blends are those by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from benchmarks.published import Carried, PublishedTokenFlow, _blend, _taken
from tests.tiny import moving_square, tiny_model, whole
from tokenflow.config import PnP as Settings
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.schedules import CLEAN, add_noise, shared_noise
from tokenflow.models.attention import Site
from tokenflow.modes.mode import InvertedClip
from tokenflow.propagation import Guidance
from tokenflow.store.inversions import StoredInversion

FRAMES, BATCH = 5, 2


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> InvertedClip:
    """One picture, five times."""
    model = tiny_model()
    frames = np.repeat(moving_square(1), FRAMES, axis=0)
    trajectory = StoredInversion(tmp_path_factory.mktemp("still"), {"clip": "still"})
    trajectory.write_frames((frame, Fraction(index), Fraction(1)) for index, frame in enumerate(frames))
    clean = model.encode(as_tensor(frames))
    trajectory.write_latents(CLEAN, [clean])
    for step in model.schedule.steps(4):
        alpha = model.schedule.alpha(step.timestep)
        trajectory.write_latents(step.timestep, [add_noise(clean, shared_noise(clean, 0), alpha)])
    return InvertedClip(model, trajectory, trajectory.frames(), model.encode_prompt("a dog on grass"))


@pytest.mark.parametrize("until", [0.0, 1.0])
def test_a_still_clip_under_its_own_prompt_gets_the_networks_own_noise(until: float, still: InvertedClip) -> None:
    """Whatever is injected, extended or taken from a keyframe is what each frame has itself."""
    guidance = Guidance(still.conditioning, still.conditioning, 1.0)
    settings = Settings(features_until=until, attention_until=until)
    predict = PublishedTokenFlow(still, settings, guidance, BATCH, 0)
    step = still.model.schedule.steps(4)[1]
    level = still.level(step.timestep)
    expected = still.model.predict(whole(level), step.timestep, still.conditioning)[0]
    seen = []
    for frames, noise in predict(level, step):
        seen += frames
        torch.testing.assert_close(noise, expected[frames], rtol=0, atol=1e-4)  # sums in another order
    assert seen == list(range(FRAMES))


def test_the_own_keyframes_share_is_the_sigmoid_of_the_relative_distance_to_the_centre_before() -> None:
    share = _blend(range(8, 16), 1, 8)
    assert share[4].item() == pytest.approx(1 / (1 + math.exp(-1)))  # at the batch's own centre
    assert share[0].item() == pytest.approx(1 / (1 + math.exp(-0.5)))  # half way between the centres


def test_a_frame_takes_its_share_of_either_keyframe_at_the_places_found() -> None:
    outputs = torch.stack([torch.arange(3.0), 10 + torch.arange(3.0)])[None, :, :, None]  # b k n c
    places = [torch.tensor([[2, 1, 0]]), torch.tensor([[0, 0, 1]])]
    taken = _taken({"site": outputs}, Carried([1, 0], torch.tensor([0.75]), {"site": places}))
    blended = taken(Site("site", 1), None, torch.zeros(1, 3, 1))
    assert blended.flatten().tolist() == [0.75 * 12 + 0, 0.75 * 11 + 0, 0.75 * 10 + 0.25 * 1]
