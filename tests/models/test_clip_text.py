from typing import Any

import pytest
import torch
from compel import Compel, ReturnedEmbeddingsType
from transformers import CLIPTokenizer

from tests.tiny import TOKENS, level, tiny_pipeline, tiny_tokenizer, tiny_xl_pipeline
from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.models.stable_diffusion import StableDiffusion

LONG = "a dog on grass, and a cat, by the sea at night, in moonlight, under a tree and a cloud"
CHUNKS = ["a dog on grass, and a cat,", " by the sea at night, in moonlight,", " under a tree and a cloud"]
"""The same as it is cut for 30 tokens of one letter, at commas."""


def with_commas(pipeline: Any) -> Any:
    """The pipeline with tokenizers that have a token for commas."""
    known = tiny_tokenizer().get_vocab()
    vocabulary = {**known, ",": len(known), ",</w>": len(known) + 1}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)
    for name in {"tokenizer", "tokenizer_2"} & pipeline.components.keys():
        pipeline.register_modules(**{name: tokenizer})
    return pipeline


@pytest.fixture(scope="module")
def sd() -> StableDiffusion:
    return StableDiffusion(with_commas(tiny_pipeline()))


@pytest.fixture(scope="module")
def xl() -> StableDiffusion:
    return StableDiffusion(with_commas(tiny_xl_pipeline()))


def compel_of(pipeline: Any) -> Compel:
    """Compel as its own documentation sets it up for these pipelines."""
    if hasattr(pipeline, "text_encoder_2"):
        return Compel(
            tokenizer=[pipeline.tokenizer, pipeline.tokenizer_2],
            text_encoder=[pipeline.text_encoder, pipeline.text_encoder_2],
            returned_embeddings_type=ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
            requires_pooled=[False, True],
        )
    return Compel(tokenizer=pipeline.tokenizer, text_encoder=pipeline.text_encoder)


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl_pipeline])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a (tiger:1.3) on grass", "a (tiger)1.3 on grass"),
        ("a (tiger:0.5) on grass", "a (tiger)0.5 on grass"),
        ("(tiger:1.5) on (grass:0.2)", "(tiger)1.5 on (grass)0.2"),
        ("a [tiger]", "a (tiger)0.9090909090909091"),
    ],
)
def test_weights_are_those_of_compel(make: Any, ours: str, theirs: str) -> None:
    pipeline = make()
    with torch.no_grad():
        expected = compel_of(pipeline)(theirs)
    states = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(StableDiffusion(pipeline).condition(ours).tokens, states, rtol=0, atol=1e-5)


def test_the_pooled_state_is_that_of_the_first_chunk_without_weights(xl: StableDiffusion) -> None:
    expected = xl.condition("a tiger on grass").added["text_embeds"]
    assert torch.equal(xl.condition("a (tiger:1.3) on grass BREAK night").added["text_embeds"], expected)


def test_a_weight_above_one_moves_a_token_away_from_the_empty_prompt(sd: StableDiffusion) -> None:
    plain, empty = sd.condition("a b c").tokens, sd.condition("").tokens
    weighted = sd.condition("a (b:1.4) c").tokens
    expected = plain.clone()
    expected[:, 2] = empty[:, 2] + 1.4 * (plain[:, 2] - empty[:, 2])  # after the start and "a"
    torch.testing.assert_close(weighted, expected, rtol=0, atol=1e-5)


def test_a_plain_prompt_is_encoded_as_diffusers_does_it() -> None:
    pipeline = tiny_pipeline()
    expected, _ = pipeline.encode_prompt("a dog", "cpu", 1, False)
    assert torch.equal(StableDiffusion(pipeline).condition("a dog").tokens, expected)


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_a_long_prompt_is_cut_at_commas_and_its_chunks_follow_each_other(
    family: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(family)
    parts = [model.condition(chunk).tokens for chunk in CHUNKS]
    found = model.condition(LONG)
    torch.testing.assert_close(found.tokens, torch.cat(parts, dim=1), rtol=0, atol=1e-5)


def test_break_begins_another_chunk(sd: StableDiffusion) -> None:
    found = sd.condition("a dog BREAK grass").tokens
    expected = torch.cat([sd.condition("a dog").tokens, sd.condition("grass").tokens], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_shorter_prompt_beside_a_long_one_is_filled_up_with_the_empty_prompt(sd: StableDiffusion) -> None:
    both = stack([sd.condition("a cat"), sd.condition(LONG)])
    assert both.tokens.shape[1] == len(CHUNKS) * TOKENS
    expected = torch.cat([sd.condition("a cat").tokens, *[sd.condition("").tokens] * 2], dim=1)
    assert torch.equal(both.tokens[:1], expected)
    assert sd.predict(torch.randn(1, 4, 8, 8), level(500), both).isfinite().all()


def test_an_empty_negative_prompt_of_sdxl_stays_zero_beside_a_long_one(xl: StableDiffusion) -> None:
    empty = xl.condition("", negative=True)
    if not empty.tokens.any():
        assert not stack([empty, xl.condition(LONG)]).tokens[0].any()


def test_prompts_of_one_length_are_stacked_as_they_are() -> None:
    first, second = Conditioning(torch.ones(1, 2, 3)), Conditioning(torch.zeros(1, 2, 3))
    assert torch.equal(stack([first, second]).tokens, torch.cat([first.tokens, second.tokens]))


def test_empty_brackets_leave_the_rest_of_the_prompt(sd: StableDiffusion) -> None:
    assert torch.equal(sd.condition("a dog ( ) on grass").tokens, sd.condition("a dog on grass").tokens)
