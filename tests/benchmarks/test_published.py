"""The published structure: a still clip is predicted frame by frame, and blends are those computed by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tokenflow
from benchmarks.published import Matches, PublishedTokenFlow, blend_weights, propagate
from tests.tiny import moving_square, tiny_model, whole
from tokenflow.config import PnP
from tokenflow.diffusion.guidance import Guidance
from tokenflow.models.attention import Site
from tokenflow.modes.source import InvertedClip

FRAMES, BATCH, STEPS = 5, 2, 4


@pytest.fixture(scope="module")
def still() -> InvertedClip:
    """One image, five times."""
    frames = np.repeat(moving_square(1), FRAMES, axis=0)
    return tokenflow.invert(tokenflow.Video(frames, rate=1), tiny_model(), "a dog on grass", steps=STEPS)


@pytest.mark.parametrize("features", ["block", "residual"])
@pytest.mark.parametrize("until", [0.0, 1.0])
def test_a_still_clip_under_its_own_prompt_gets_the_networks_own_prediction(
    features: str, until: float, still: InvertedClip
) -> None:
    """Whatever is injected, extended or propagated from a keyframe equals what each frame has itself."""
    guidance = Guidance(still.conditioning, still.conditioning, 1.0)
    settings = PnP(features=features, features_until=until, attention_until=until)
    predict = PublishedTokenFlow(still, settings, guidance, BATCH, 0)
    step = still.model.schedule.steps(STEPS)[1]
    latents = still.latents_at(step.at)
    expected = still.model.predict(whole(latents), step.at, still.conditioning)[0]
    seen = []
    for indices, prediction in predict(latents, step):
        seen += indices
        torch.testing.assert_close(prediction, expected[indices], rtol=0, atol=1e-4)  # sums in another order
    assert seen == list(range(FRAMES))


def test_another_family_is_refused(still: InvertedClip) -> None:
    other = SimpleNamespace(model=object())
    with pytest.raises(TypeError, match="expected a Stable Diffusion model, got object"):
        PublishedTokenFlow(other, PnP(), Guidance(still.conditioning, None, 1.0), BATCH, 0)


def test_the_own_keyframes_weight_is_the_sigmoid_of_the_relative_distance_to_the_centre_before() -> None:
    weight = blend_weights(range(8, 16), 1, 8)
    assert weight[4].item() == pytest.approx(1 / (1 + math.exp(-1)))  # at the batch's own centre
    assert weight[0].item() == pytest.approx(1 / (1 + math.exp(-0.5)))  # half way between the centres


def test_a_frame_blends_both_keyframes_at_their_matches() -> None:
    outputs = torch.stack([torch.arange(3.0), 10 + torch.arange(3.0)])[None, :, :, None]  # b k n c
    indices = [torch.tensor([[2, 1, 0]]), torch.tensor([[0, 0, 1]])]
    attend = propagate({"site": outputs}, Matches([1, 0], torch.tensor([0.75]), {"site": indices}))
    blended = attend(SimpleNamespace(site=Site("site", 1), tokens=torch.zeros(1, 3, 1)))
    assert blended.flatten().tolist() == [0.75 * 12 + 0, 0.75 * 11 + 0, 0.75 * 10 + 0.25 * 1]
