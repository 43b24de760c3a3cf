"""Sampling from frames that were carried."""

import torch

from tokenflow.modes.carried import CarriedMode
from tokenflow.modes.source import InvertedClip


def mode_of(source: InvertedClip, strength: float = 0.5) -> CarriedMode:
    clean = source.latents(source.model.schedule.clean)
    uncertain = torch.zeros(len(clean), 1, *clean.shape[-2:])
    uncertain[:, :, :, 1:] = 1
    return CarriedMode(source, clean + 1.0, uncertain, strength)


def test_carried_frames_have_the_noise_of_the_inversion(source: InvertedClip) -> None:
    level = source.model.schedule.steps(4, tokens=1)[1].at
    carried = mode_of(source).source_latents_at(level)[[0, 1]]
    torch.testing.assert_close(carried, source.latents(level, [0, 1]) + level.signal)


def test_without_a_difference_they_are_the_source(source: InvertedClip) -> None:
    clean = source.latents(source.model.schedule.clean)
    mode = CarriedMode(source, clean, torch.ones(len(clean), 1, 1, 1), 1.0)
    level = source.model.schedule.steps(4, tokens=1)[0].at
    assert torch.equal(mode.source_latents_at(level)[[1]], source.latents(level, [1]))


def test_only_uncertain_places_are_sampled(source: InvertedClip) -> None:
    mode = mode_of(source)
    level = source.model.schedule.steps(4, tokens=1)[2].at
    sampled = torch.full_like(source.latents(level, [0]), 7.0)
    composed = mode.compose([0], sampled, level)
    assert (composed[..., 1:] == 7).all()
    torch.testing.assert_close(composed[..., 0], mode.source_latents_at(level)[[0]][..., 0])


def test_strength_is_the_share_of_the_steps(source: InvertedClip) -> None:
    steps = source.model.schedule.steps(4, tokens=1)
    start, taken = mode_of(source, 0.5).initial_latents(steps)
    assert list(taken) == list(steps[2:])
    assert torch.equal(start[[0]], mode_of(source).source_latents_at(steps[2].at)[[0]])
