import pytest
import torch

from tests.tiny import whole
from tokenflow.config import PnP
from tokenflow.diffusion.schedules import Step
from tokenflow.models.injection import ATTENTION, EMPTY, Injection
from tokenflow.modes.mode import Call
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.source import InvertedClip

COUNT = 25
FRAMES = [3, 0]


def steps(source: InvertedClip) -> tuple[Step, ...]:
    return source.model.schedule.steps(COUNT)


def capture(source: InvertedClip, mode: PnPMode, step: Step) -> Injection:
    latents = torch.zeros(len(FRAMES), 4, 8, 12)  # the edit's own, which Plug-and-Play does not read
    return mode.capture(Call(FRAMES, latents, step, source.conditioning))


def test_it_starts_at_the_end_of_the_inversion_and_takes_all_steps(source: InvertedClip) -> None:
    start, taken = PnPMode(source, PnP()).initial_latents(steps(source))
    assert torch.equal(whole(start), source.inversion.latents(steps(source)[0].at))
    assert list(taken) == list(steps(source))


@pytest.mark.parametrize(
    ("features_until", "attention_until"), [(0.8, 0.5), (0.2, 0.6), (0.0, 0.4), (0.4, 0.0), (0.0, 0.0), (1.0, 1.0)]
)
def test_features_and_attention_are_injected_in_their_shares_of_the_steps(
    features_until: float, attention_until: float, source: InvertedClip
) -> None:
    mode = PnPMode(source, PnP(features_until=features_until, attention_until=attention_until))
    captured = [capture(source, mode, step) for step in steps(source)]
    for index, each in enumerate(captured):
        assert set(each.features) == ({"block"} if (index + 1) / COUNT <= features_until else set())
        assert bool(each.queries_keys) == ((index + 1) / COUNT <= attention_until)
        assert each.residuals is None


@pytest.mark.parametrize("features", ["block", "residual"])
def test_what_is_injected_is_what_the_model_captures_in_the_sources_latents_of_those_frames(
    features: str, source: InvertedClip
) -> None:
    step = steps(source)[3]
    injected = capture(source, PnPMode(source, PnP(features=features)), step)
    latents = source.inversion.latents(step.at)[FRAMES]
    expected = source.model.capture(latents, step.at, source.conditioning, {ATTENTION, features})
    assert injected.queries_keys.keys() == expected.queries_keys.keys()
    assert len(expected.queries_keys) > 0
    for name, (queries, keys) in expected.queries_keys.items():
        assert torch.equal(injected.queries_keys[name][0], queries)
        assert torch.equal(injected.queries_keys[name][1], keys)
        assert queries.shape[0] == len(FRAMES)
    assert injected.features.keys() == {features}
    assert torch.equal(injected.features[features], expected.features[features])


def test_after_both_shares_the_network_does_not_run_and_no_latents_are_read(
    source: InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = PnPMode(source, PnP(features_until=0.8, attention_until=0.5))
    monkeypatch.setattr(source.model, "capture", lambda *_, **__: pytest.fail("the network ran"))
    monkeypatch.setattr(source.inversion, "latents", lambda *_: pytest.fail("latents were read"))
    for step in steps(source)[20:]:
        assert capture(source, mode, step) == EMPTY


def test_the_network_is_asked_only_for_what_is_injected(source: InvertedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []
    monkeypatch.setattr(source.model, "capture", lambda *arguments: asked.append(arguments[3]))
    mode = PnPMode(source, PnP(features_until=0.8, attention_until=0.5))
    capture(source, mode, steps(source)[0])
    capture(source, mode, steps(source)[15])
    assert asked == [{ATTENTION, "block"}, {"block"}]
