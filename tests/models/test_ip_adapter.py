"""IP-Adapters beside diffusers' own pipelines, on tiny random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import tokenflow
from tests.tiny import moving_square, tiny_model, tiny_pipeline, tiny_xl_pipeline
from tests.tiny_sana import tiny_sana
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.pipeline.references import Reference, guided_by_images
from tokenflow.pipeline.wiring import build_guidance
from tokenflow.video import Video

CLIP = Video(moving_square(4), rate=1)
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
WIDTH, TOKENS = 12, 4
"""Of the image encoder's states, and how many tokens an image becomes."""


def save_adapter(folder: Path, unet: Any) -> Path:
    """Random weights for the layers of cross-attention of a UNet, in the published layout."""
    torch.manual_seed(20)
    weights, width = {}, unet.config.cross_attention_dim
    names = [name for name in unet.attn_processors if "attn2" in name]
    for number, name in zip(range(1, 2 * len(names), 2), names, strict=True):
        out = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        weights |= {f"ip_adapter.{number}.{part}.weight": torch.randn(out, width) for part in ("to_k_ip", "to_v_ip")}
    weights |= {
        "image_proj.proj.weight": torch.randn(TOKENS * width, WIDTH),
        "image_proj.proj.bias": torch.randn(TOKENS * width),
    }
    weights |= {"image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width)}
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter.safetensors")
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=WIDTH,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder / "adapter.safetensors"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapter"), tiny_pipeline().unet)


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl_pipeline], ids=["SD", "SDXL"])
def test_predictions_are_those_of_the_pipeline_with_the_adapter(make: Any, tmp_path: Path) -> None:
    """Both branches of guidance, at a scale below 1, through load_ip_adapter and a step of the pipeline."""
    pipeline = make()
    path = save_adapter(tmp_path / "adapter", pipeline.unet)
    model = StableDiffusion(pipeline)
    before = model.fingerprint
    step, latents = model.schedule.steps(2)[0], torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guidance = build_guidance(model, "a dog", "", 3.0, (16, 16))
    plain = model.predict(latents, step.at, guidance.branches)
    guided = guided_by_images(guidance, model, str(path), [Reference(IMAGE, weight=0.7)])
    ours = model.predict(latents, step.at, guided.branches)
    assert torch.equal(model.predict(latents, step.at, guidance.branches), plain)  # nothing is left behind
    assert StableDiffusion(pipeline).fingerprint == before

    pipeline.load_ip_adapter(str(path.parent), subfolder="", weight_name=path.name)
    pipeline.set_ip_adapter_scale(0.7)
    images = pipeline.prepare_ip_adapter_image_embeds([Image.fromarray(IMAGE)], None, "cpu", 1, True)
    with torch.no_grad():
        theirs = pipeline.unet(
            latents.repeat(2, 1, 1, 1),
            int(step.at.time),
            encoder_hidden_states=guidance.branches.tokens,
            added_cond_kwargs={**guidance.branches.added, "image_embeds": images},
        ).sample
    torch.testing.assert_close(ours[:, 0], theirs, rtol=0, atol=1e-6)
    assert (ours[-1] - plain[-1]).abs().max() > 1e-3


def test_edits_take_images_and_several_add_up(adapter: Path) -> None:
    source = tokenflow.invert(CLIP, tiny_model(), "a dog", steps=2)
    how = {"ip_adapter": str(adapter), "steps": 2}
    plain = tokenflow.edit(source, "a tiger", steps=2)
    none = tokenflow.edit(source, "a tiger", references=[Reference(IMAGE, weight=0)], **how)
    assert np.abs(none.frames.astype(int) - plain.frames).max() <= 1
    one = tokenflow.edit(source, "a tiger", references=[IMAGE], **how)
    halves = tokenflow.edit(source, "a tiger", references=[Reference(IMAGE, weight=0.5)] * 2, **how)
    assert np.abs(one.frames.astype(int) - plain.frames).max() > 5
    assert np.abs(one.frames.astype(int) - halves.frames).max() <= 1


def test_an_adapter_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    model = tiny_model()
    path = save_adapter(tmp_path, tiny_pipeline().unet)
    source = tokenflow.invert(CLIP, model, "a dog", steps=1)

    def edited() -> np.ndarray:
        return tokenflow.edit(source, "a tiger", references=[IMAGE], ip_adapter=str(path)).frames

    first = edited()
    assert np.array_equal(edited(), first)
    save_file({name: 2 * weight for name, weight in load_file(path).items()}, tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").replace(path)
    assert not np.array_equal(edited(), first)


def test_regions_with_prompts_and_anchored_edits_take_images_too(adapter: Path) -> None:
    source = tokenflow.invert(CLIP, tiny_model(), "a dog", steps=0)
    region = tokenflow.Region(mask=np.ones((16, 24), bool), prompt="a cat")
    edited = tokenflow.edit(
        source, "a tiger", mode=tokenflow.FlowEdit(), regions=[region], references=[Reference(IMAGE, weight=2)],
        ip_adapter=str(adapter), steps=2,
    )  # fmt: skip
    plain = tokenflow.edit(source, "a tiger", mode=tokenflow.FlowEdit(), regions=[region], steps=2)
    assert np.abs(edited.frames.astype(int) - plain.frames).max() > 1


def test_what_is_not_an_adapter_of_the_model_is_refused(adapter: Path, tmp_path: Path) -> None:
    model = tiny_model()
    with pytest.raises(
        ModelNotFoundError, match=r"the IP-Adapter 'nothing.safetensors' was not found in .*set edit\.ip_adapter"
    ):
        model.load_ip_adapter("nothing.safetensors")
    alone = tmp_path / "adapter.safetensors"
    alone.write_bytes(adapter.read_bytes())
    with pytest.raises(ModelNotFoundError, match=r"a folder image_encoder beside it"):
        model.load_ip_adapter(str(alone))
    with pytest.raises(ModelError, match=r"IP-Adapter at .* was trained for another model"):
        StableDiffusion(tiny_xl_pipeline()).load_ip_adapter(str(adapter))


def test_other_families_say_that_they_have_none(adapter: Path) -> None:
    source = tokenflow.invert(CLIP, tiny_sana(), "a dog", steps=1)
    with pytest.raises(ModelError, match=r"only Stable Diffusion and SDXL have IP-Adapters"):
        tokenflow.edit(source, "a tiger", references=[IMAGE], ip_adapter=str(adapter))
