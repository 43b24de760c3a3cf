"""ComfyUI's images and masks as they arrive: resampled, in any precision, on any device."""

from typing import Any

import pytest
import torch
from conftest import HEIGHT, WIDTH, Nodes, clip, run
from torch import Tensor

from tokenflow.errors import TokenflowError

OVERSHOT = torch.linspace(-0.1, 1.1, HEIGHT * WIDTH * 3).reshape(1, HEIGHT, WIDTH, 3)
"""As bicubic scaling leaves it."""


def inputs(nodes: Nodes, model: Any, image: Tensor) -> dict[str, dict[str, Any]]:
    """Each node that takes images, with these."""
    video = clip(1)
    video.get_components().images = image
    inverting = {"model": model, "prompt": "a dog", "steps": 1}
    return {
        "Invert": inverting | {"images": image},
        "Invert ": inverting | {"video": video},
        "Reference": {"images": image},
        "EditedKeyframes": {"images": image, "frames": "0"},
    }


def test_values_beyond_black_and_white_are_cut_off(nodes: Nodes, model: Any, inversion: Any) -> None:
    expected = OVERSHOT.clamp(0, 1)
    for name, given in inputs(nodes, model, OVERSHOT).items():
        made = run(nodes[f"Tokenflow{name.strip()}"], **given)[0]
        if name.startswith("Invert"):
            assert (made.clip.video.frames == (expected * 255).round().byte().numpy()).all()
        else:
            image = made[0].image if name == "Reference" else made.images[0]
            assert torch.equal(image, expected[0])
    mask = OVERSHOT[..., 0]
    region = run(nodes["TokenflowRegion"], mask=mask)[0][0]
    assert torch.equal(region.mask, mask.clamp(0, 1))
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", regions=[region], steps=1)


def test_any_precision_will_do_and_gradients_do_not_matter(nodes: Nodes, model: Any, inversion: Any) -> None:
    image = torch.rand(1, HEIGHT, WIDTH, 3).bfloat16().requires_grad_()
    for name, given in inputs(nodes, model, image).items():
        run(nodes[f"Tokenflow{name.strip()}"], **given)
    references = run(nodes["TokenflowReference"], images=image)[0]
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", references=references, steps=1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((1, HEIGHT, WIDTH, 3), torch.nan), "values that are no numbers"),
        (torch.zeros(1, HEIGHT, WIDTH, 4), "have an alpha channel; remove it with Split Image with Alpha"),
        (torch.zeros(1, HEIGHT, WIDTH, 1), "expected images of shape"),
    ],
    ids=["NaN", "alpha", "grey"],
)
def test_what_is_no_image_is_refused_by_every_node(image: Tensor, message: str, nodes: Nodes, model: Any) -> None:
    for name, given in inputs(nodes, model, image).items():
        with pytest.raises((ValueError, TokenflowError), match=message):
            run(nodes[f"Tokenflow{name.strip()}"], **given)


def test_a_mask_of_no_numbers_is_refused(nodes: Nodes) -> None:
    with pytest.raises(ValueError, match="the mask holds values that are no numbers"):
        run(nodes["TokenflowRegion"], mask=torch.full((1, HEIGHT, WIDTH), torch.nan))
