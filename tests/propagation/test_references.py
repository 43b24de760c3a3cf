"""What references add to attention, for softmax and for linear attention."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import inverted_clip, moving_square, tiny_model
from tests.tiny_sana import tiny_sana
from tokenflow.models.attention import AttentionCall, attend_within_frames, project_qkv
from tokenflow.models.injection import EMPTY
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.wiring import build_guidance
from tokenflow.propagation.extended_attention import extended_attention
from tokenflow.propagation.feature_bank import EMPTY_BANK
from tokenflow.propagation.references import References, _repeated_inside

FRAMES = [0, 2]


@pytest.fixture(scope="module", params=["softmax", "linear"])
def source(request: Any) -> InvertedClip:
    return inverted_clip(moving_square(3), 1, model=tiny_model() if request.param == "softmax" else tiny_sana())


def latents(source: InvertedClip, indices: list[int]) -> Tensor:
    return source.latents(source.inversion.levels[-1], indices)


def predicted(source: InvertedClip, references: References | None) -> Tensor:
    """The predictions b f c h w of two keyframes under both branches, each attending to itself and to references."""
    level, guidance = source.inversion.levels[-1], build_guidance(source.model, "a tiger", "", 4.0, source.size)
    seen = None if references is None else references.at(level, guidance.branches, 1)
    attention = extended_attention(EMPTY, len(FRAMES), EMPTY_BANK, (), {}, {}, seen)
    return source.model.predict(latents(source, FRAMES), level, guidance.branches, attention=attention)


def references(source: InvertedClip, of: Tensor, count: float, *, styles: tuple[int, ...] = ()) -> References:
    inside = torch.ones(len(of), *of.shape[-2:])
    return References(source.model, lambda _: of, torch.full([len(of)], count), inside, styles)


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


@pytest.mark.parametrize("styles", [(), (0,)])
def test_a_frame_as_its_own_reference_changes_nothing(source: InvertedClip, styles: tuple[int, ...]) -> None:
    """Its tokens twice give the same mean as once, and its statistics are its own."""
    own = references(source, latents(source, FRAMES[:1]), 3.0, styles=styles)
    torch.testing.assert_close(predicted(source, own)[:, 0], predicted(source, None)[:, 0], rtol=0, atol=1e-5)


def test_only_branches_with_the_prompt_see_references(source: InvertedClip) -> None:
    plain = predicted(source, None)
    changed = predicted(source, references(source, -latents(source, [1]), 2.0, styles=(0,)))
    torch.testing.assert_close(changed[0], plain[0], rtol=0, atol=1e-6)
    assert (changed[1] - plain[1]).abs().max() > 1e-4


def test_references_add_up_by_their_counts(source: InvertedClip) -> None:
    other = -latents(source, [1])
    one, two = references(source, other, 2.0), references(source, other.repeat(2, 1, 1, 1), 1.0)
    torch.testing.assert_close(predicted(source, one), predicted(source, two), rtol=0, atol=1e-5)


def test_styles_lend_the_statistics_of_their_queries_and_keys(source: InvertedClip) -> None:
    level, guidance = source.inversion.levels[-1], build_guidance(source.model, "a tiger", "", 4.0, source.size)
    features = references(source, latents(source, [1]), 1.0, styles=(0,)).at(level, guidance.branches, 1)
    site = source.model.sites[0].name
    (mean, deviation), _ = features.moments[site]  # 2 1 c each
    tokens = torch.randn(4, 30, mean.shape[-1], generator=torch.Generator().manual_seed(0))  # (b f) n c
    queries, _ = features.restyled(site, tokens, tokens)
    assert torch.equal(queries[:2], tokens[:2])
    torch.testing.assert_close(queries[2:].mean(1), mean[1].expand(2, -1), rtol=0, atol=1e-4)
    torch.testing.assert_close(queries[2:].std(1, unbiased=False), deviation[1].expand(2, -1), rtol=0, atol=1e-4)


def test_tokens_outside_are_replaced_by_those_inside() -> None:
    inside = torch.tensor([[0.0, 1.0, 0.6, 0.4, 0.0], [0.0] * 5])
    assert _repeated_inside(inside).tolist() == [[1, 2, 1, 2, 1], [0, 1, 2, 3, 4]]


def test_they_are_read_once_per_level(source: InvertedClip) -> None:
    level, guidance = source.inversion.levels[-1], build_guidance(source.model, "a tiger", "", 4.0, source.size)
    once = references(source, latents(source, [1]), 1.0)
    assert once.at(level, guidance.branches, 1) is once.at(level, guidance.branches, 1)
