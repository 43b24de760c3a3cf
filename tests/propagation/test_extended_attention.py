"""Extended attention beside its formula, at every site of a tiny Stable Diffusion."""

import pytest
import torch
from torch import Tensor

from tests.propagation.test_tokenflow import guidance
from tokenflow.diffusion.schedules import CLEAN
from tokenflow.models.attention import Injection, SelfAttention, Site
from tokenflow.modes.mode import InvertedClip
from tokenflow.propagation.extended_attention import Levels, extended_attention, extended_sites
from tokenflow.propagation.feature_bank import FeatureBank


def softmax_attention(layer: SelfAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The formula, with the matrix of all weights: queries n c over keys and values m c, through the projection."""
    heads = layer._layer.heads
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in (queries, keys, values))
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
    return layer._layer.to_out[0]((weights @ v).transpose(0, 1).flatten(1))


@pytest.mark.parametrize("levels", ["coarse", "all"])
def test_extended_attention_is_softmax_over_the_tokens_of_all_keyframes_and_of_the_context(
    levels: Levels, moving: InvertedClip
) -> None:
    """Geyer et al., section 4.1, equation 3; for both branches, keyframe by keyframe, at each site."""
    model, timestep = moving.model, 500
    branches = guidance(moving).branches
    context_latents, latents = moving.latents(CLEAN, [0, 1]), moving.latents(CLEAN, [4, 6, 8])
    sites = extended_sites(levels, model.sites)
    kept: dict[str, Tensor] = {}
    earlier = extended_attention(Injection(), 2, FeatureBank((), {}), sites, {}, kept)
    model.predict(context_latents, timestep, branches, strategy=earlier)
    outputs: dict[str, Tensor] = {}
    extended = extended_attention(Injection(), 3, FeatureBank((0, 1), kept), sites, outputs, {})

    def compared(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        own = tokens.unflatten(0, (2, 3))
        result = extended(site, layer, tokens)
        for branch, given in enumerate(result.unflatten(0, (2, 3))):
            for keyframe, output in enumerate(given):
                keys, values = (made(own[branch, keyframe]) for made in (layer.keys, layer.values))
                if site.name in sites:
                    keys, values = (
                        torch.cat(
                            [kept[f"{name} of {site.name}"][branch].flatten(0, 1), made(own[branch]).flatten(0, 1)]
                        )
                        for name, made in (("keys", layer.keys), ("values", layer.values))
                    )
                wanted = softmax_attention(layer, layer.queries(own[branch, keyframe]), keys, values)
                torch.testing.assert_close(output, wanted, rtol=0, atol=1e-5)  # the order of sums
                assert torch.equal(outputs[site.name][branch, keyframe], output)
        seen.append(site.name)
        return result

    seen: list[str] = []
    model.predict(latents, timestep, branches, strategy=compared)
    assert seen == [site.name for site in model.sites]


def test_keyframes_see_each_other_at_all_levels_or_at_all_but_the_finest() -> None:
    sites = Site("fine", 2), Site("coarse", 4), Site("coarsest", 8), Site("fine again", 2)
    assert extended_sites("all", sites) == {"fine", "coarse", "coarsest", "fine again"}
    assert extended_sites("coarse", sites) == {"coarse", "coarsest"}


def test_where_there_is_but_one_level_keyframes_see_each_other_there() -> None:
    assert extended_sites("coarse", [Site("only", 2)]) == {"only"}
