import torch

from tests.tiny import level, tiny_model
from tokenflow.diffusion.conditioning import stack
from tokenflow.models.attention import AttentionCall, Site, attend_within_frames, per_frame_attention, project_qkv
from tokenflow.models.injection import Injection

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))


def test_ordinary_self_attention_through_our_processor_is_that_of_diffusers() -> None:
    model = tiny_model()
    prompt = stack([model.condition("a dog"), model.condition("a tiger")])
    ours = model.predict(LATENTS, level(500), prompt, attention=per_frame_attention())
    theirs = model.predict(LATENTS, level(500), prompt)
    # The same projections and the same fused kernel, so the same numbers to rounding.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_injected_queries_and_keys_replace_the_calls_own_in_every_branch() -> None:
    model = tiny_model()
    prompt = stack([model.condition("a dog"), model.condition("a tiger")])
    site = model.sites[0]
    rows, columns = site.grid(8, 12)
    injected = torch.randn(2, 3, rows * columns, 16)
    seen: list[torch.Tensor] = []

    def override(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = project_qkv(call, Injection({site.name: (injected[0], injected[1])}))
        if call.site == site:
            seen.extend([queries, keys, values])
        return attend_within_frames(call, queries, keys, values)

    model.predict(LATENTS, level(500), prompt, attention=override)
    assert torch.equal(seen[0], injected[0].repeat(2, 1, 1))
    assert torch.equal(seen[1], injected[1].repeat(2, 1, 1))
    assert not torch.equal(seen[2], seen[1])


def test_a_part_of_a_call_is_projected_as_the_whole_is() -> None:
    model = tiny_model()
    frames = torch.tensor([2, 0])

    def compare(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = project_qkv(call)
        indices = torch.tensor([[1, 5, 3], [0, 0, 3]])  # the coarsest grid has six tokens
        asked, own_keys, own_values = call.project_part(frames, indices)
        # Products of another number of rows are summed in another order.
        torch.testing.assert_close(asked, queries[frames[:, None], indices], rtol=0, atol=1e-5)
        torch.testing.assert_close(own_keys, keys[frames], rtol=0, atol=1e-5)
        torch.testing.assert_close(own_values, values[frames], rtol=0, atol=1e-5)
        return attend_within_frames(call, queries, keys, values)

    model.predict(LATENTS, level(500), model.condition("a dog"), attention=compare)


def test_memories_of_several_frames_are_attended_to_as_one_sequence() -> None:
    model = tiny_model()

    def compare(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = project_qkv(call)
        joined = call.attend(queries[:1], call.memory(keys[None], values[None]))  # 1 n c over 1 f n c
        sequence = call.attend(queries[:1], (keys.flatten(0, 1)[None, None], values.flatten(0, 1)[None, None]))
        assert torch.equal(joined, sequence)
        return attend_within_frames(call, queries, keys, values)

    model.predict(LATENTS, level(500), model.condition("a dog"), attention=compare)


def test_a_grid_covers_latents_of_any_size() -> None:
    assert Site("x", 4).grid(8, 10) == (2, 3)
