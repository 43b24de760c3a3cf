import pytest
import torch

from tests.tiny import whole
from tokenflow.config import PnP as Settings
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import Features, Injection
from tokenflow.modes.mode import Call, InvertedClip
from tokenflow.modes.pnp import PnP

COUNT = 25
FRAMES = [3, 0]


def steps(source: InvertedClip) -> tuple[Step, ...]:
    return source.model.schedule.steps(COUNT)


def inject(source: InvertedClip, mode: PnP, step: Step, *, carried: bool = False) -> Injection:
    latents = torch.zeros(len(FRAMES), 4, 8, 12)  # the edit's own, which PnP does not read
    return mode.inject(Call(FRAMES, latents, step, source.conditioning, carried))


def test_it_starts_at_the_end_of_the_inversion_and_takes_all_steps(source: InvertedClip) -> None:
    start, taken = PnP(source, Settings()).initial_latents(steps(source))
    assert torch.equal(whole(start), source.trajectory.latents(steps(source)[0].timestep))
    assert list(taken) == list(steps(source))


@pytest.mark.parametrize(
    ("features_until", "attention_until"), [(0.8, 0.5), (0.2, 0.6), (0.0, 0.4), (0.4, 0.0), (0.0, 0.0), (1.0, 1.0)]
)
def test_each_kind_is_injected_in_its_share_of_the_steps(
    features_until: float, attention_until: float, source: InvertedClip
) -> None:
    mode = PnP(source, Settings(features_until=features_until, attention_until=attention_until))
    injections = [inject(source, mode, step) for step in steps(source)]
    first_features, first_attention = round(features_until * COUNT), round(attention_until * COUNT)
    assert [set(each.features) for each in injections] == [
        {"block"} if index < first_features else set() for index in range(COUNT)
    ]
    assert [bool(each.queries_keys) for each in injections] == [index < first_attention for index in range(COUNT)]
    assert all(each.control is None for each in injections)


@pytest.mark.parametrize("features", ["block", "residual"])
def test_what_is_injected_is_what_the_model_reads_in_the_sources_latents_of_those_frames(
    features: Features, source: InvertedClip
) -> None:
    step = steps(source)[3]
    injected = inject(source, PnP(source, Settings(features=features)), step)
    latents = source.trajectory.latents(step.timestep)[FRAMES]
    read = source.model.read(latents, step.timestep, source.conditioning, attention=True, features=features)
    assert injected.queries_keys.keys() == read.queries_keys.keys()
    assert len(read.queries_keys) > 0
    for name, (queries, keys) in read.queries_keys.items():
        assert torch.equal(injected.queries_keys[name][0], queries)
        assert torch.equal(injected.queries_keys[name][1], keys)
        assert queries.shape[0] == len(FRAMES)
    assert injected.features.keys() == {features}
    assert torch.equal(injected.features[features], read.features[features])


def test_after_both_shares_and_where_all_is_carried_the_network_does_not_run_and_no_latents_are_read(
    source: InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = PnP(source, Settings(features_until=0.8, attention_until=0.5))
    monkeypatch.setattr(source.model, "read", lambda *_, **__: pytest.fail("the network ran"))
    monkeypatch.setattr(source.trajectory, "latents", lambda *_: pytest.fail("latents were read"))
    for step in steps(source)[20:]:
        assert inject(source, mode, step) == Injection()
    for step in steps(source):
        assert inject(source, mode, step, carried=True) == Injection()


def test_where_attention_is_not_injected_the_network_runs_no_further_than_the_features(
    source: InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(source.model, "read", lambda *_, **what: asked.append(what))
    mode = PnP(source, Settings(features_until=0.8, attention_until=0.5))
    inject(source, mode, steps(source)[0])
    inject(source, mode, steps(source)[15])
    assert asked == [{"attention": True, "features": "block"}, {"attention": False, "features": "block"}]
