import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tiny import whole
from tokenflow.config import SDEdit
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step
from tokenflow.models.injection import EMPTY
from tokenflow.modes.mode import Call
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.modes.source import InvertedClip

COUNT = 25

once_a_source = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the fixture is never changed


def steps(source: InvertedClip) -> tuple[Step, ...]:
    return source.model.schedule.steps(COUNT)


def noise_in(source: InvertedClip, latents: Tensor, level: Level) -> Tensor:
    """The noise that was added to the source's clean latents."""
    return (latents - level.signal * source.latents(source.model.schedule.clean)) / level.noise


@given(strength=st.floats(1e-6, 1))
@once_a_source
def test_the_share_of_the_steps_that_is_taken_is_the_strength(strength: float, source: InvertedClip) -> None:
    _, taken = SDEditMode(source, SDEdit(strength=strength), 0).initial_latents(steps(source))
    assert list(taken) == list(steps(source)[COUNT - len(taken) :])
    assert len(taken) >= 1
    assert len(taken) == max(1, int(COUNT * strength))  # as diffusers' image-to-image pipelines round it


@pytest.mark.parametrize(
    ("strength", "count"), [(1.0, 25), (0.8, 20), (0.6, 15), (0.2, 5), (0.04, 1), (0.01, 1), (1e-9, 1)]
)
def test_strength_1_takes_all_steps_and_the_smallest_takes_one(
    strength: float, count: int, source: InvertedClip
) -> None:
    _, taken = SDEditMode(source, SDEdit(strength=strength), 0).initial_latents(steps(source))
    assert len(taken) == count
    assert taken[-1].to == source.model.schedule.clean


@pytest.mark.parametrize("strength", [1.0, 0.6, 0.01])
def test_the_inversions_noise_is_the_trajectorys_own_latents_at_the_level_of_the_first_step(
    strength: float, source: InvertedClip
) -> None:
    mode = SDEditMode(source, SDEdit(strength=strength, noise="inversion"), 0)
    start, taken = mode.initial_latents(steps(source))
    assert torch.equal(whole(start), source.inversion.latents(taken[0].at))


@pytest.mark.parametrize("strength", [1.0, 0.6, 0.2])
def test_shared_noise_is_one_gaussian_in_all_frames_at_the_level_of_the_first_step(
    strength: float, source: InvertedClip
) -> None:
    start, taken = SDEditMode(source, SDEdit(strength=strength, noise="shared"), 3).initial_latents(steps(source))
    noise = noise_in(source, whole(start), taken[0].at)
    # Float32; at the cleanest of these levels the noise is a fifth of the latents' size.
    torch.testing.assert_close(noise, noise[:1].expand_as(noise), rtol=0, atol=1e-4)
    assert abs(noise[0].mean()) < 4 / noise[0].numel() ** 0.5  # four standard deviations of a mean
    assert abs(noise[0].std() - 1) < 4 / (2 * noise[0].numel()) ** 0.5


def test_the_seed_decides_the_shared_noise_whatever_the_strength(source: InvertedClip) -> None:
    noises = []
    for seed, strength in ((0, 0.6), (0, 1.0), (1, 0.6)):
        start, taken = SDEditMode(source, SDEdit(strength=strength, noise="shared"), seed).initial_latents(
            steps(source)
        )
        noises.append(noise_in(source, whole(start), taken[0].at))
    torch.testing.assert_close(noises[0], noises[1], rtol=0, atol=1e-4)
    assert (noises[0] - noises[2]).abs().mean() > 0.5


def test_it_injects_nothing(source: InvertedClip) -> None:
    mode = SDEditMode(source, SDEdit(), 0)
    for step in steps(source):
        call = Call([0, 1], source.latents(step.at, [0, 1]), step, source.conditioning)
        assert mode.capture(call) == EMPTY
        assert mode.residuals(call) is None
