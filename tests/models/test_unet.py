import pytest
import torch
from torch import nn

from tests.tiny import level, tiny_model, tiny_unet, tiny_xl_pipeline
from tokenflow.models.attention import AttentionCall
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.models.unet import find_injection_points, find_sites

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("levels", "layers"), [(2, 1), (3, 1), (3, 2), (4, 2)])
def test_sites_are_found_in_a_unet_of_any_depth_in_the_order_it_runs_through_them(levels: int, layers: int) -> None:
    model = tiny_model(levels, layers)
    visited: list[str] = []
    grids: list[int] = []

    def note(call: AttentionCall) -> torch.Tensor:
        visited.append(call.site.name)
        rows, columns = call.site.grid(8, 12)
        grids.append(call.tokens.shape[1] - rows * columns)
        return call.tokens

    model.predict(LATENTS, level(500), model.condition("a dog"), attention=note)
    assert visited == [site.name for site in model.sites]
    assert grids == [0] * len(visited)
    assert len(visited) == (levels - 1) * (2 * layers + 1) + 1


def test_in_stable_diffusions_topology_features_are_injected_where_plug_and_play_does() -> None:
    unet = tiny_unet(levels=4, layers=2)
    points = find_injection_points(unet, tuple(find_sites(unet)))
    assert points.block is unet.up_blocks[1].resnets[1]
    assert points.attention[0] == "up_blocks.1.attentions.1.transformer_blocks.0.attn1"
    assert len(points.attention) == 8  # layers 4 to 11 of the decoder


def test_in_stable_diffusions_topology_the_injected_block_bypasses_the_coarser_half() -> None:
    unet = tiny_unet(levels=4, layers=2)
    bypassed = find_injection_points(unet, tuple(find_sites(unet))).bypassed
    names = {name for name, module in unet.named_modules() if module in bypassed}
    encoder = {f"down_blocks.{block}.resnets.{place}" for block in (2, 3) for place in (0, 1)}
    encoder |= {"down_blocks.2.attentions.0", "down_blocks.2.attentions.1", "down_blocks.2.downsamplers.0"}
    middle = {"mid_block.resnets.0", "mid_block.resnets.1", "mid_block.attentions.0"}
    decoder = {f"up_blocks.0.resnets.{place}" for place in (0, 1, 2)} | {"up_blocks.0.upsamplers.0"}
    assert names == encoder | middle | decoder | {"up_blocks.1.resnets.0", "up_blocks.1.attentions.0"}


def whole(model: StableDiffusion, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The prediction with features injected by a hook, and every module of the network run."""
    block = model._points.block
    with block.register_forward_hook(lambda _module, _inputs, _output: features):
        return model.predict(latents(*size), level(500), model.condition("a dog"))


def latents(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(0))


# Sides that a coarser level halves evenly and ones that it rounds up.
@pytest.mark.parametrize("size", [(8, 16), (10, 14)])
@pytest.mark.parametrize(("levels", "layers"), [(2, 1), (3, 1), (3, 2), (4, 2)])
def test_modules_that_an_injected_block_bypasses_are_neither_computed_nor_missed(
    levels: int, layers: int, size: tuple[int, int]
) -> None:
    model = tiny_model(levels, layers)
    check_bypassed(model, size)


def test_modules_that_an_injected_block_bypasses_are_not_missed_in_sdxl_either() -> None:
    check_bypassed(StableDiffusion(tiny_xl_pipeline()), (8, 12))


def check_bypassed(model: StableDiffusion, size: tuple[int, int]) -> None:
    prompt = model.condition("a dog")
    others = latents(*size).flip(0)
    read = model.capture(others, level(500), prompt, {"block"})
    expected = whole(model, read.features["block"], size)
    run: list[nn.Module] = []
    handles = [conv.register_forward_hook(lambda module, *_: run.append(module)) for conv in convolutions(model)]
    injected = model.predict(latents(*size), level(500), prompt, inject=read)
    for handle in handles:
        handle.remove()
    assert torch.equal(injected, expected)
    unneeded = {part for module in model._points.bypassed for part in module.modules()}
    assert set(run) == set(convolutions(model)) - unneeded - set(model._points.block.modules())


def convolutions(model: StableDiffusion) -> list[nn.Module]:
    return [module for module in model._unet.modules() if isinstance(module, nn.Conv2d)]
