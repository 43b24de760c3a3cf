"""Extended attention beside its formula, at every site of a tiny Stable Diffusion."""

import pytest
import torch
from torch import Tensor

from tests.propagation.test_tokenflow import guidance
from tests.tiny import level
from tokenflow.models.attention import AttentionCall, Site
from tokenflow.models.injection import EMPTY
from tokenflow.modes.source import InvertedClip
from tokenflow.propagation.extended_attention import Levels, extended_attention, extended_sites
from tokenflow.propagation.feature_bank import EMPTY_BANK, FeatureBank


def softmax_attention(layer: torch.nn.Module, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The formula, with the matrix of all weights: queries n c over keys and values m c, through the projection."""
    q, k, v = (part.unflatten(-1, (layer.heads, -1)).transpose(0, 1) for part in (queries, keys, values))
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
    return layer.to_out[0]((weights @ v).transpose(0, 1).flatten(1))


@pytest.mark.parametrize("levels", ["coarse", "all"])
def test_extended_attention_is_softmax_over_the_tokens_of_all_keyframes_and_of_the_context(
    levels: Levels, moving: InvertedClip
) -> None:
    """Geyer et al., section 4.1, equation 3; for both branches, keyframe by keyframe, at each site."""
    model, clean = moving.model, moving.model.schedule.clean
    branches = guidance(moving).branches
    context_latents, latents = moving.latents(clean, [0, 1]), moving.latents(clean, [4, 6, 8])
    sites = extended_sites(levels, model.sites)
    memories: dict[str, Tensor] = {}
    earlier = extended_attention(EMPTY, 2, EMPTY_BANK, sites, {}, memories)
    model.predict(context_latents, level(500), branches, attention=earlier)
    outputs: dict[str, Tensor] = {}
    extended = extended_attention(EMPTY, 3, FeatureBank((0, 1), memories), sites, outputs, {})

    def compared(call: AttentionCall) -> Tensor:
        layer = model._unet.get_submodule(call.site.name)
        tokens = call.tokens.unflatten(0, (2, 3))
        result = extended(call)
        for branch, of_branch in enumerate(result.unflatten(0, (2, 3))):
            for keyframe, output in enumerate(of_branch):
                seen = tokens[branch] if call.site.name in sites else tokens[branch, keyframe][None]
                keys, values = (project(seen).flatten(0, 1) for project in (layer.to_k, layer.to_v))
                if call.site.name in sites:
                    before = [memories[f"memory {n} of {call.site.name}"][branch].flatten(0, 1) for n in (0, 1)]
                    keys, values = torch.cat([before[0], keys]), torch.cat([before[1], values])
                expected = softmax_attention(layer, layer.to_q(tokens[branch, keyframe]), keys, values)
                torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)  # the order of sums
                assert torch.equal(outputs[call.site.name][branch, keyframe], output)
        visited.append(call.site.name)
        return result

    visited: list[str] = []
    model.predict(latents, level(500), branches, attention=compared)
    assert visited == [site.name for site in model.sites]


def test_keyframes_attend_to_each_other_at_all_levels_or_at_all_but_the_finest() -> None:
    sites = Site("fine", 2), Site("coarse", 4), Site("coarsest", 8), Site("fine again", 2)
    assert extended_sites("all", sites) == {"fine", "coarse", "coarsest", "fine again"}
    assert extended_sites("coarse", sites) == {"coarse", "coarsest"}


def test_in_a_network_of_one_level_keyframes_attend_to_each_other_there() -> None:
    assert extended_sites("coarse", [Site("only", 2)]) == {"only"}
