"""Extended attention beside its formula, at every site of a tiny Stable Diffusion."""

import pytest
import torch
from torch import Tensor

from tests.propagation.test_tokenflow import guidance
from tokenflow.attention import Injection, SelfAttention, Site, each_frame_to_itself
from tokenflow.modes.base import Source
from tokenflow.propagation.extended import Extent, extended_attention, view
from tokenflow.propagation.kept import Kept
from tokenflow.schedule import CLEAN

TIMESTEP = 500
SUMS = 1e-5
"""The order of sums."""


def softmax_attention(layer: SelfAttention, queries: Tensor, keys: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    """The formula, with the matrix of all weights: queries n c over keys and values m c, each so many (m) times."""
    heads = layer._layer.heads
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in (queries, keys, values))
    weights = counts * (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    return layer._layer.to_out[0]((weights @ v).transpose(0, 1).flatten(1))


@pytest.mark.parametrize("extent", ["coarse", "full"])
def test_keyframes_attend_to_their_own_tokens_and_to_what_others_and_the_context_show(
    extent: Extent, moving: Source
) -> None:
    """Geyer et al., section 4.1, equation 3; for both branches, keyframe by keyframe, at each site."""
    backbone = moving.backbone
    branches = guidance(moving).branches
    context_latents, latents = moving.latents(CLEAN, [0, 1]), moving.latents(CLEAN, [4, 6, 8])
    shown = view(extent, backbone.sites, (latents.shape[-2], latents.shape[-1]))
    kept: dict[str, Tensor] = {}
    earlier = extended_attention(Injection(), 2, Kept((), {}), shown, {}, kept)
    backbone.predict(context_latents, TIMESTEP, branches, strategy=earlier)
    extended = extended_attention(Injection(), 3, Kept((0, 1), kept), shown, {}, {})

    def compared(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        own = tokens.unflatten(0, (2, 3))
        result = extended(site, layer, tokens)
        for branch, given in enumerate(result.unflatten(0, (2, 3))):
            for keyframe, output in enumerate(given):
                keys, values = ([made(own[branch, keyframe])] for made in (layer.keys, layer.values))
                for together, name, made in ((keys, "keys", layer.keys), (values, "values", layer.values)):
                    others = shown(site, made(own[branch, [other for other in range(3) if other != keyframe]])[None])[0]
                    together += [*kept[f"{name} of {site.name}"][branch], *others]
                counts = torch.cat([torch.full((len(part),), len(keys[0]) / len(part)) for part in keys if len(part)])
                query = layer.queries(own[branch, keyframe])
                wanted = softmax_attention(layer, query, torch.cat(keys), torch.cat(values), counts)
                torch.testing.assert_close(output, wanted, rtol=0, atol=SUMS)
        seen.append(site.name)
        return result

    seen: list[str] = []
    backbone.predict(latents, TIMESTEP, branches, strategy=compared)
    assert seen == [site.name for site in backbone.sites]


def test_coarse_shows_means_of_two_by_two_and_of_the_finest_level_nothing() -> None:
    sites = (Site("fine", 1), Site("coarse", 2))
    shown = view("coarse", sites, (6, 9))
    tokens = torch.arange(2 * 15, dtype=torch.float32).view(1, 2, 15, 1)  # on the coarse level's grid of 3 × 5
    assert shown(sites[0], torch.rand(1, 2, 54, 1)).shape == (1, 2, 0, 1)
    means = shown(sites[1], tokens)[0, :, :, 0].unflatten(1, (2, 3))
    # Of an odd side the cells overlap, so that each is a mean of about as many.
    grid = torch.arange(15, dtype=torch.float32).view(3, 5)
    cells = [grid[rows, columns] for rows in (slice(0, 2), slice(1, 3)) for columns in map(slice, (0, 1, 3), (2, 4, 5))]
    wanted = torch.stack([cell.mean() for cell in cells])
    assert torch.equal(means[0].flatten(), wanted)
    assert torch.equal(means[1], means[0] + 15)


def test_full_shows_every_token() -> None:
    tokens = torch.rand(2, 3, 15, 4)
    assert torch.equal(view("full", (Site("only", 1),), (3, 5))(Site("only", 1), tokens), tokens)


@pytest.mark.parametrize("extent", ["coarse", "full"])
def test_a_keyframe_alone_attends_to_itself_as_ever(extent: Extent, moving: Source) -> None:
    backbone, latents = moving.backbone, moving.latents(CLEAN, [3])
    shown = view(extent, backbone.sites, (latents.shape[-2], latents.shape[-1]))
    alone = extended_attention(Injection(), 1, Kept((), {}), shown, {}, {})
    noise = [
        backbone.predict(latents, TIMESTEP, moving.conditioning, strategy=strategy)
        for strategy in (alone, each_frame_to_itself())
    ]
    torch.testing.assert_close(noise[0], noise[1], rtol=0, atol=SUMS)
