"""Linear attention beside diffusers' own processor and beside its formula, at every site of a tiny Sana."""

from typing import Any

import pytest
import torch

from tests.tiny_sana import tiny_sana, tiny_sprint
from tokenflow.diffusion.conditioning import stack
from tokenflow.models.attention import AttentionCall, attend_within_frames, per_frame_attention, project_qkv
from tokenflow.models.sana import Sana

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))

MODELS = {"sana": tiny_sana, "sprint": tiny_sprint}


@pytest.fixture(params=MODELS)
def model(request: Any) -> Sana:
    return MODELS[request.param]()


def visit(model: Sana, attention: Any) -> None:
    """Call the network with an override for attention."""
    prompt = stack([model.condition("a dog"), model.condition("a tiger")])
    model.predict(LATENTS, model.schedule.steps(2)[1].at, prompt, attention=attention)


def test_ordinary_self_attention_is_that_of_diffusers_bit_for_bit(model: Sana) -> None:
    prompt = stack([model.condition("a dog"), model.condition("a tiger")])
    level = model.schedule.steps(2)[1].at
    ours = model.predict(LATENTS, level, prompt, attention=per_frame_attention())
    assert torch.equal(ours, model.predict(LATENTS, level, prompt))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_is_that_of_diffusers_in_half_precision_too(dtype: torch.dtype) -> None:
    model = tiny_sana()
    model._transformer.to(dtype)
    prompt = model.condition("a dog")
    level = model.schedule.steps(2)[1].at
    ours = model.predict(LATENTS, level, prompt, attention=per_frame_attention())
    assert torch.equal(ours, model.predict(LATENTS, level, prompt))


def test_the_sum_of_states_is_the_state_of_one_long_sequence(model: Sana) -> None:
    def compare(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = project_qkv(call)
        (states,) = call.memory(keys, values)
        (whole,) = call.memory(keys.flatten(0, 1), values.flatten(0, 1))
        # Sums of six frames' tokens in another order.
        torch.testing.assert_close(states.sum(0), whole, rtol=1e-5, atol=1e-5)
        together = call.attend(queries[:1], (states[None],))
        torch.testing.assert_close(together, call.attend(queries[:1], (whole[None, None],)), rtol=0, atol=1e-6)
        return attend_within_frames(call, queries, keys, values)

    visit(model, compare)


def test_attention_to_several_frames_is_its_formula_over_all_their_tokens(model: Sana) -> None:
    """Weights relu(q)·relu(k) that add up to 1, token by token (Katharopoulos et al., ICML 2020, equation 4)."""

    def compare(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = project_qkv(call)
        layer = model._transformer.get_submodule(call.site.name)
        joined = call.attend(queries[:1], tuple(each[None] for each in call.memory(keys, values)))
        q, k, v = (
            part.flatten(0, 1).unflatten(-1, (layer.heads, -1)).transpose(0, 1) for part in (queries, keys, values)
        )
        weights = q.relu() @ k.relu().transpose(1, 2)  # h (f n) (f n)
        attended = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-15)) @ v
        expected = layer.to_out[0](attended.transpose(0, 1).flatten(1))[: queries.shape[1]]
        torch.testing.assert_close(joined[0], expected, rtol=0, atol=1e-5)
        return attend_within_frames(call, queries, keys, values)

    visit(model, compare)


def test_a_state_is_as_small_as_one_matrix_per_head() -> None:
    def measure(call: AttentionCall) -> torch.Tensor:
        (state,) = call.memory(*project_qkv(call)[1:])
        assert state.shape == (6, 2, 9, 8)
        return per_frame_attention()(call)

    visit(tiny_sana(), measure)


def test_a_part_of_a_call_is_projected_as_the_whole_is(model: Sana) -> None:
    frames, indices = torch.tensor([2, 0]), torch.tensor([[1, 5, 3], [0, 0, 95]])

    def compare(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = project_qkv(call)
        asked, own_keys, own_values = call.project_part(frames, indices)
        # Products of another number of rows are summed in another order.
        torch.testing.assert_close(asked, queries[frames[:, None], indices], rtol=0, atol=1e-5)
        torch.testing.assert_close(own_keys, keys[frames], rtol=0, atol=1e-5)
        torch.testing.assert_close(own_values, values[frames], rtol=0, atol=1e-5)
        return attend_within_frames(call, queries, keys, values)

    visit(model, compare)
