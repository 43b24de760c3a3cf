"""What references add to attention, for softmax and for linear attention."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import inverted_clip, moving_square, tiny_model
from tests.tiny_sana import tiny_sana
from tokenflow.diffusion.guidance import Guidance
from tokenflow.models.attention import AttentionCall, attend_within_frames, project_qkv
from tokenflow.models.injection import EMPTY
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.wiring import build_guidance
from tokenflow.propagation.extended_attention import extended_attention
from tokenflow.propagation.feature_bank import EMPTY_BANK, FeatureBank
from tokenflow.propagation.references import Moments, ReferenceFeatures, References, _moments, _repeated_inside

FRAMES = [0, 2]


@pytest.fixture(scope="module", params=["softmax", "linear"])
def source(request: Any) -> InvertedClip:
    return inverted_clip(moving_square(3), 1, model=tiny_model() if request.param == "softmax" else tiny_sana())


def latents(source: InvertedClip, indices: list[int]) -> Tensor:
    return source.latents(source.inversion.levels[-1], indices)


def guidance_of(source: InvertedClip) -> Guidance:
    return build_guidance(source.model, "a tiger", "", 4.0, source.size)


def features_of(source: InvertedClip, references: References | None) -> ReferenceFeatures | None:
    if references is None:
        return None
    return references.at(source.inversion.levels[-1], guidance_of(source).branches, 1)


def predicted(
    source: InvertedClip,
    references: References | None,
    frames: list[int] = FRAMES,
    context: FeatureBank = EMPTY_BANK,
    extended: Collection[str] = (),
    memories: dict[str, Tensor] | None = None,
) -> Tensor:
    """The predictions b f c h w of keyframes under both branches, each attending to references and to itself; at
    extended sites also to the others and to the context."""
    level, features = source.inversion.levels[-1], features_of(source, references)
    memories = {} if memories is None else memories
    attention = extended_attention(EMPTY, len(frames), context, extended, {}, memories, features)
    return source.model.predict(latents(source, frames), level, guidance_of(source).branches, attention=attention)


def references(source: InvertedClip, of: Tensor, count: float, *styles: float) -> References:
    """References to latents r c h w: how many times each counts, and the weights of their statistics, none without."""
    inside = torch.ones(len(of), *of.shape[-2:])
    weights = torch.tensor(styles or [0.0] * len(of))
    return References(source.model, lambda _: of, torch.full([len(of)], count), inside, weights)


def test_counts_say_how_many_times_a_frame_is_attended_to(source: InvertedClip) -> None:
    """A count of 2 is the frame twice, and of 0 not at all."""

    def compared(call: AttentionCall) -> Tensor:
        queries, keys, values = project_qkv(call)  # f n c each
        both = tuple(each[None] for each in call.memory(keys, values))  # 1 f …
        twice = tuple(torch.cat([each, each[:, 1:]], 1) for each in both)
        alone = tuple(each[:, :1] for each in both)
        for counts, same in (([1.0, 2.0], twice), ([1.0, 0.0], alone)):
            counted = call.attend(queries[:1], both, torch.tensor([counts]))
            torch.testing.assert_close(counted, call.attend(queries[:1], same), rtol=0, atol=1e-5)
        visited.append(call.site.name)
        return attend_within_frames(call, queries, keys, values)

    visited: list[str] = []
    level = source.inversion.levels[-1]
    source.model.predict(latents(source, FRAMES), level, source.conditioning, attention=compared)
    assert len(visited) == len(source.model.sites)


@pytest.mark.parametrize("style", [0.0, 1.0])
def test_a_frame_as_its_own_reference_changes_nothing_and_another_one_does(source: InvertedClip, style: float) -> None:
    """Its tokens twice give the same mean as once, and its statistics are its own."""
    plain = predicted(source, None)[:, 0]
    own = references(source, latents(source, FRAMES[:1]), 3.0, style)
    torch.testing.assert_close(predicted(source, own)[:, 0], plain, rtol=0, atol=1e-5)
    other = references(source, -latents(source, FRAMES[:1]), 3.0, style)
    assert (predicted(source, other)[:, 0] - plain).abs().max() > 1e-4


@pytest.mark.parametrize("style", [0.0, 1.0])
def test_a_reference_means_the_same_in_a_window_of_any_size(source: InvertedClip, style: float) -> None:
    """A frame twice, with itself as context, attends to its tokens three times, and to the reference's as often."""
    seen = references(source, -latents(source, [1]), 2.0, style)
    sites = [site.name for site in source.model.sites]
    memories: dict[str, Tensor] = {}
    alone = predicted(source, seen, FRAMES[:1], extended=sites, memories=memories)
    together = predicted(source, seen, FRAMES[:1] * 2, FeatureBank((7,), memories), sites)
    torch.testing.assert_close(together, alone.expand_as(together), rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, predicted(source, seen, FRAMES[:1]), rtol=0, atol=1e-5)
    assert (alone[1] - predicted(source, None, FRAMES[:1])[1]).abs().max() > 1e-4


def test_calls_with_the_prompts_branch_alone_see_the_same(source: InvertedClip) -> None:
    both = references(source, -latents(source, [1]), 2.0, 1.0)
    features = features_of(source, both)
    assert features is not None
    level, conditional = source.inversion.levels[-1], guidance_of(source).conditional
    attention = features.of_last(1).within_frames()
    alone = source.model.predict(latents(source, FRAMES), level, conditional, attention=attention)
    torch.testing.assert_close(alone[0], predicted(source, both)[1], rtol=0, atol=1e-5)


def test_only_branches_with_the_prompt_see_references(source: InvertedClip) -> None:
    plain = predicted(source, None)
    changed = predicted(source, references(source, -latents(source, [1]), 2.0, 1.0))
    torch.testing.assert_close(changed[0], plain[0], rtol=0, atol=1e-6)
    assert (changed[1] - plain[1]).abs().max() > 1e-4


def test_references_add_up_by_their_counts(source: InvertedClip) -> None:
    other = -latents(source, [1])
    one, two = references(source, other, 2.0), references(source, other.repeat(2, 1, 1, 1), 1.0)
    torch.testing.assert_close(predicted(source, one), predicted(source, two), rtol=0, atol=1e-5)


def restyled(source: InvertedClip, *styles: float) -> tuple[Tensor, Tensor, Moments]:
    """Queries (b f) n c of two frames and two branches, before and after, and the moments of styles of some weights."""
    features = features_of(source, references(source, latents(source, [1, 2])[: len(styles)], 1.0, *styles))
    assert features is not None
    site = source.model.sites[0]
    moments, _ = features.moments[site.name]  # 2 1 c each
    tokens = torch.randn(4, 30, moments[0].shape[-1], generator=torch.Generator().manual_seed(0))
    call = SimpleNamespace(site=site, text_tokens=0)
    queries, _ = features.restyled(call, tokens, tokens)
    return tokens, queries, moments


def test_styles_lend_the_statistics_of_their_queries_and_keys(source: InvertedClip) -> None:
    tokens, queries, (mean, deviation) = restyled(source, 1.0)
    assert torch.equal(queries[:2], tokens[:2])
    torch.testing.assert_close(queries[2:].mean(1), mean[1].expand(2, -1), rtol=0, atol=1e-4)
    torch.testing.assert_close(queries[2:].std(1, unbiased=False), deviation[1].expand(2, -1), rtol=0, atol=1e-4)


def test_below_a_weight_of_1_they_lend_a_part_and_above_no_more(source: InvertedClip) -> None:
    tokens, whole, _ = restyled(source, 1.0)
    for weight in (1e-6, 0.25, 3.0):
        _, queries, _ = restyled(source, weight)
        expected = tokens + min(1.0, weight) * (whole - tokens)
        torch.testing.assert_close(queries, expected, rtol=0, atol=1e-5)
    assert (whole - tokens)[2:].abs().max() > 1e-2


def test_statistics_of_several_images_are_those_of_all_their_tokens_by_weight() -> None:
    tokens = torch.randn(2, 2, 30, 5, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 3.0]).view(
        2, 1, 1
    )
    mean, deviation = _moments(tokens, torch.tensor([0.5, 1.5]))  # 2 1 5 each
    repeated = torch.cat([tokens[:, 0], *[tokens[:, 1]] * 3], 1)  # 2 120 5: the second three times as often
    torch.testing.assert_close(mean[:, 0], repeated.mean(1))
    torch.testing.assert_close(deviation[:, 0], repeated.std(1, unbiased=False))


def test_tokens_outside_are_replaced_by_those_inside() -> None:
    inside = torch.tensor([[0.0, 1.0, 0.6, 0.4, 0.0], [0.0] * 5])
    assert _repeated_inside(inside).tolist() == [[1, 2, 1, 2, 1], [0, 1, 2, 3, 4]]


def test_they_are_read_once_per_level(source: InvertedClip) -> None:
    once = references(source, latents(source, [1]), 1.0)
    assert features_of(source, once) is features_of(source, once)
