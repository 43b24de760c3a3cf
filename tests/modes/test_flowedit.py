"""FlowEdit: the noise of the source, level by level."""

import torch

from tests.tiny import whole
from tokenflow.config import FlowEdit
from tokenflow.modes.flowedit import FlowEditMode
from tokenflow.modes.source import InvertedClip


def noise(mode: FlowEditMode, source: InvertedClip, step: int) -> torch.Tensor:
    level = source.model.schedule.steps(4)[step].at
    clean = source.latents(source.model.schedule.clean)
    return (whole(mode.source_latents_at(level)) - level.signal * clean) / level.noise


def test_all_frames_share_the_noise_of_a_level_and_every_level_has_its_own(source: InvertedClip) -> None:
    mode = FlowEditMode(source, FlowEdit(), seed=0)
    first, second = noise(mode, source, 0), noise(mode, source, 1)
    torch.testing.assert_close(first, first[[0]].expand_as(first), rtol=0, atol=1e-4)
    assert abs(float(torch.corrcoef(torch.stack([first[0].flatten(), second[0].flatten()]))[0, 1])) < 0.15
    torch.testing.assert_close(noise(FlowEditMode(source, FlowEdit(), seed=0), source, 0), first, rtol=0, atol=0)
    assert (noise(FlowEditMode(source, FlowEdit(), seed=1), source, 0) - first).abs().max() > 1


def test_it_starts_where_its_strength_says_and_ends_at_the_clean_source(source: InvertedClip) -> None:
    mode = FlowEditMode(source, FlowEdit(strength=0.5), seed=0)
    steps = source.model.schedule.steps(4)
    start, taken = mode.initial_latents(steps)
    assert taken == steps[2:]
    assert torch.equal(whole(start), whole(mode.source_latents_at(steps[2].at)))
    clean = source.model.schedule.clean
    assert torch.equal(whole(mode.source_latents_at(clean)), source.latents(clean))
