import pytest
import torch

from tests.tiny import whole
from tokenflow.config import PnP, SDEdit
from tokenflow.diffusion.levels import at_level, shared_noise
from tokenflow.diffusion.schedules import Step
from tokenflow.modes.mode import Call, Mode
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.modes.source import InvertedClip
from tokenflow.modes.variation import Varied

COUNT = 25
EXACT = 1e-5
"""Float32 of latents up to 4, through two sums."""


def steps(source: InvertedClip) -> tuple[Step, ...]:
    return source.model.schedule.steps(COUNT)


def modes(source: InvertedClip) -> dict[str, Mode]:
    return {"pnp": PnPMode(source, PnP()), "sdedit": SDEditMode(source, SDEdit(strength=0.6, noise="shared"), 3)}


@pytest.mark.parametrize("name", ["pnp", "sdedit"])
def test_variation_0_keeps_the_initial_latents_and_1_replaces_their_noise(name: str, source: InvertedClip) -> None:
    mode = modes(source)[name]
    start, taken = mode.initial_latents(steps(source))
    kept, steps_kept = Varied(mode, source, 0.0, 3).initial_latents(steps(source))
    torch.testing.assert_close(whole(kept), whole(start), rtol=0, atol=EXACT)
    replaced, steps_replaced = Varied(mode, source, 1.0, 3).initial_latents(steps(source))
    clean = source.latents(source.model.schedule.clean)
    expected = at_level(clean, shared_noise(clean, 3, draw=1), taken[0].at)
    torch.testing.assert_close(whole(replaced), expected, rtol=0, atol=EXACT)
    assert list(steps_kept) == list(steps_replaced) == list(taken)


def test_the_noise_keeps_its_variance_even_where_the_mode_draws_from_the_same_seed(source: InvertedClip) -> None:
    clean = source.latents(source.model.schedule.clean)
    for seed in range(20):
        mode = SDEditMode(source, SDEdit(strength=1.0, noise="shared"), seed)
        start, taken = Varied(mode, source, 0.6, seed).initial_latents(steps(source))
        noise = ((whole(start) - taken[0].at.signal * clean) / taken[0].at.noise)[0]
        assert abs(noise.var() - 1) < 4 * (2 / noise.numel()) ** 0.5  # four standard deviations of a variance


def test_the_fresh_noise_is_the_same_in_all_frames_and_another_for_another_seed(source: InvertedClip) -> None:
    mode = PnPMode(source, PnP())
    own, _ = mode.initial_latents(steps(source))
    added = [whole(Varied(mode, source, 0.6, seed).initial_latents(steps(source))[0]) for seed in (0, 1)]
    clean, level = source.latents(source.model.schedule.clean), steps(source)[0].at
    for start in added:
        fresh = start - level.signal * clean - 0.8 * (whole(own) - level.signal * clean)
        torch.testing.assert_close(fresh, fresh[:1].expand_as(fresh), rtol=0, atol=EXACT)
    assert (added[0] - added[1]).abs().mean() > 0.3


def test_without_an_edit_the_latents_lead_to_the_source_at_every_level(source: InvertedClip) -> None:
    """A prediction between any two of them has the same clean latents as the mode's own."""
    mode = SDEditMode(source, SDEdit(noise="shared"), 0)
    varied = Varied(mode, source, 0.7, 0)
    parametrisation = source.model.schedule.parametrisation
    for step in steps(source)[:-1]:
        cleaner, noisier = (whole(varied.source_latents_at(level)) for level in (step.to, step.at))
        prediction = parametrisation.between(cleaner, noisier, step.to, step.at)
        clean = parametrisation.clean(noisier, prediction, step.at)
        torch.testing.assert_close(clean, source.latents(source.model.schedule.clean), rtol=0, atol=2e-3)


def test_what_is_injected_is_the_sources_own(source: InvertedClip) -> None:
    mode = PnPMode(source, PnP())
    varied = Varied(mode, source, 0.7, 0)
    step = steps(source)[0]
    call = Call([0, 1], source.latents(step.at, [0, 1]), step, source.conditioning)
    expected, captured = mode.capture(call), varied.capture(call)
    assert torch.equal(captured.features["block"], expected.features["block"])
    assert captured.queries_keys.keys() == expected.queries_keys.keys()
    for site, pair in expected.queries_keys.items():
        assert all(map(torch.equal, captured.queries_keys[site], pair))
    assert varied.residuals(call) is None
