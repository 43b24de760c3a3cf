import pytest
import torch

from tests.tiny import whole
from tokenflow.attention import Injection
from tokenflow.config import PnP as Settings
from tokenflow.modes.base import Call, Source
from tokenflow.modes.pnp import PnP
from tokenflow.schedule import Step

COUNT = 25
FRAMES = [3, 0]


def steps(source: Source) -> tuple[Step, ...]:
    return source.backbone.schedule.steps(COUNT)


def inject(source: Source, mode: PnP, step: Step, computes_attention: bool) -> Injection:
    latents = torch.zeros(len(FRAMES), 4, 8, 12)  # the edit's own, which PnP does not read
    return mode.inject(Call(FRAMES, latents, step, source.conditioning, computes_attention))


def test_it_starts_at_the_end_of_the_inversion_and_takes_all_steps(source: Source) -> None:
    start, taken = PnP(source, Settings()).start(steps(source))
    assert torch.equal(whole(start), source.trajectory.latents(steps(source)[0].timestep))
    assert list(taken) == list(steps(source))


@pytest.mark.parametrize("computes_attention", [True, False])
@pytest.mark.parametrize(
    ("features_until", "attention_until"), [(0.8, 0.5), (0.2, 0.6), (0.0, 0.4), (0.4, 0.0), (0.0, 0.0), (1.0, 1.0)]
)
def test_each_kind_is_injected_in_its_share_of_the_steps_and_attention_only_where_it_is_computed(
    features_until: float, attention_until: float, computes_attention: bool, source: Source
) -> None:
    mode = PnP(source, Settings(features_until=features_until, attention_until=attention_until))
    injections = [inject(source, mode, step, computes_attention) for step in steps(source)]
    first_features, first_attention = round(features_until * COUNT), round(attention_until * COUNT)
    assert [each.residual is not None for each in injections] == [index < first_features for index in range(COUNT)]
    assert [bool(each.queries_keys) for each in injections] == [
        computes_attention and index < first_attention for index in range(COUNT)
    ]
    assert all(each.control is None for each in injections)


def test_what_is_injected_is_what_the_model_reads_in_the_sources_latents_of_those_frames(source: Source) -> None:
    step = steps(source)[3]
    injected = inject(source, PnP(source, Settings()), step, True)
    latents = source.trajectory.latents(step.timestep)[FRAMES]
    read = source.backbone.read(latents, step.timestep, source.conditioning, attention=True, residual=True)
    assert injected.queries_keys.keys() == read.queries_keys.keys()
    assert len(read.queries_keys) > 0
    for name, (queries, keys) in read.queries_keys.items():
        assert torch.equal(injected.queries_keys[name][0], queries)
        assert torch.equal(injected.queries_keys[name][1], keys)
        assert queries.shape[0] == len(FRAMES)
    assert injected.residual is not None
    assert read.residual is not None
    assert torch.equal(injected.residual, read.residual)


def test_after_both_shares_the_network_does_not_run_and_no_latents_are_read(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = PnP(source, Settings(features_until=0.8, attention_until=0.5))
    monkeypatch.setattr(source.backbone, "read", lambda *_, **__: pytest.fail("the network ran"))
    monkeypatch.setattr(source.trajectory, "latents", lambda *_: pytest.fail("latents were read"))
    for step in steps(source)[20:]:
        assert inject(source, mode, step, True) == Injection()


def test_where_attention_is_not_computed_the_network_runs_no_further_than_the_residual(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, bool]] = []
    monkeypatch.setattr(source.backbone, "read", lambda *_, **what: asked.append(what))
    mode = PnP(source, Settings(features_until=0.8, attention_until=0.5))
    inject(source, mode, steps(source)[0], False)
    inject(source, mode, steps(source)[15], True)
    assert asked == [{"attention": False, "residual": True}] * 2
