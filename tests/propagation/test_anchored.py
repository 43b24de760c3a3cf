"""The algebra of anchoring, with predictions that are given."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.tiny import inverted_clip, moving_square
from tests.tiny_sana import tiny_sprint
from tokenflow.config import SDEdit
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Predict
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import TokenflowWarning
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.propagation import Anchored, EditDenoiser


def constant(value: float, groups: list[list[int]]) -> Predict:
    def predict(latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        for indices in groups:
            yield indices, torch.full_like(latents[indices], value)

    return predict


@pytest.fixture(scope="module")
def denoiser() -> EditDenoiser:
    with pytest.warns(TokenflowWarning, match="cannot be inverted"):
        source = inverted_clip(moving_square(3), 2, model=tiny_sprint())
    return EditDenoiser(source.model, SDEditMode(source, SDEdit(), 0), Guidance(source.conditioning, None, 1.0))


def test_the_prediction_is_the_sources_own_plus_what_the_edits_differs_in(denoiser: EditDenoiser) -> None:
    step = denoiser.model.schedule.steps(2)[1]
    latents = denoiser.mode.source_latents_at(step.at)
    groups = [[2], [0, 1]]
    anchored = Anchored(constant(5.0, groups), constant(3.0, groups), denoiser)(latents, step)
    for indices, prediction in anchored:
        # A flow leads straight from the clean latents to the noise that all frames share.
        noise = denoiser.source_noise(indices, step)
        clean = denoiser.mode.source_latents_at(denoiser.model.schedule.clean)[indices]
        torch.testing.assert_close(noise, noise[:1].expand_as(noise), rtol=0, atol=1e-5)
        torch.testing.assert_close(prediction, noise - clean + 2.0, rtol=0, atol=1e-5)


def test_both_have_to_take_the_frames_in_the_same_order(denoiser: EditDenoiser) -> None:
    step = denoiser.model.schedule.steps(2)[1]
    latents = denoiser.mode.source_latents_at(step.at)
    anchored = Anchored(constant(5.0, [[0, 1], [2]]), constant(3.0, [[0, 1]]), denoiser)
    with pytest.raises(ValueError, match="shorter"):
        list(anchored(latents, step))
