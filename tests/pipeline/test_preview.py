"""Previews beside the decoded x̂₀, on the model that ships."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.tiny import inverted_clip, moving_square
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.sampling import Predict
from tokenflow.models.loading import load_model
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.preview import Previewed, apply_colours, fit_colours, preview_indices
from tokenflow.video import read_frames

CLIP = "data/clips/dog_walk.mp4"


@pytest.fixture(scope="module")
def source() -> InvertedClip:
    frames = np.stack([frame.image for frame in read_frames(CLIP, frames=6)])
    model = load_model("data/models/mini-sd", device="cpu", dtype="float32")
    return inverted_clip(frames, 2, prompt="a dog on grass, 3d style", model=model)


def test_the_linear_map_correlates_with_decoded_images_that_it_was_not_fitted_on(source: InvertedClip) -> None:
    """x̂₀ of another clip: the colours are fitted on the dog, and shown for a cat on wood."""
    model = source.model
    frames = np.stack([frame.image for frame in read_frames("data/clips/cat_walk.mp4", frames=4)])
    latents = model.encode(as_tensor(frames))
    shown = apply_colours(latents, fit_colours(source, [0, 3, 5]))
    decoded = F.interpolate(model.decode(latents), latents.shape[-2:], mode="area").movedim(1, -1)
    correlation = np.corrcoef(shown.flatten(), decoded.numpy().flatten())[0, 1]
    assert correlation >= 0.9


def test_a_preview_shows_frames_spread_over_the_clip_with_both_ends() -> None:
    assert preview_indices(3) == [0, 1, 2]
    spread = preview_indices(100)
    assert len(spread) == 8
    assert (spread[0], spread[-1]) == (0, 99)


def test_a_preview_is_the_clean_estimate_of_its_frames(source: InvertedClip) -> None:
    """With the prediction that leads to the clean source, the preview is the source."""
    step = source.model.schedule.steps(2)[0]
    parametrisation = source.model.schedule.parametrisation
    noisy, clean = source.latents(step.at), source.latents(source.model.schedule.clean)
    prediction = parametrisation.between(clean, noisy, source.model.schedule.clean, step.at)
    heard: list = []
    predict: Predict = lambda latents, step: [([4, 5, 1], prediction[[4, 5, 1]]), ([0, 2, 3], prediction[[0, 2, 3]])]  # noqa: E731
    list(Previewed(predict, source, 1, heard.append)(noisy, step))
    expected = apply_colours(clean, fit_colours(source, preview_indices(6)))
    assert heard[0].indices == (0, 1, 2, 3, 4, 5)
    # Stable Diffusion's final level is not quite clean, ᾱ = 0.9991: its latents hold a thirtieth of noise.
    assert np.abs(heard[0].frames.astype(int) - expected).mean() <= 2


def test_previews_of_a_clip_shorter_than_a_preview_show_every_frame() -> None:
    tiny = inverted_clip(moving_square(2), 2)
    assert preview_indices(tiny.frame_count) == [0, 1]
    assert torch.isfinite(fit_colours(tiny, [0, 1])).all()
