"""Inpainting models edit inside of a region, as diffusers' pipelines do from the same weights and noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
from PIL import Image
from torch import Tensor

import tokenflow
from tests.tiny import (
    inpainting,
    inverted_clip,
    moving_square,
    save_tiny_controlnet,
    tiny_pipeline,
    tiny_xl_pipeline,
    whole,
)
from tokenflow import ControlNet, FlowEdit, InvertedClip, Keyframes, PnP, Region, SDEdit
from tokenflow.config import Edit
from tokenflow.errors import ConfigError
from tokenflow.models.loading import load_model
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.regions import RegionFinder
from tokenflow.pipeline.sampling import sample_edit
from tokenflow.pipeline.wiring import build_correspondence, build_guidance, build_mode

PROMPT, NEGATIVE, SCALE = "a golden tiger", "a cat", 5.0
TOLERANCE = 1e-4
"""Of latents up to about ten."""

FAMILIES: dict[str, tuple[Any, Any]] = {
    "SD": (tiny_pipeline, StableDiffusionInpaintPipeline),
    "SDXL": (tiny_xl_pipeline, StableDiffusionXLInpaintPipeline),
}
FRAMES = 3
CLIP = moving_square(FRAMES)
MASK = np.zeros((FRAMES, *CLIP.shape[1:3]), np.uint8)
MASK[:, 4:12, 6:16] = 255
MASK[1, 2:10, 8:20] = 255


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models; the autoencoder's posterior is narrow, since diffusers samples it and tokenflow takes its mean."""
    made = {}
    for family, (make, _) in FAMILIES.items():
        pipeline = inpainting(make())
        pipeline.vae.quant_conv.weight.data[4:] = 0
        pipeline.vae.quant_conv.bias.data[4:] = -30
        made[family] = tmp_path_factory.mktemp("models") / family
        pipeline.save_pretrained(made[family])
    return made


@pytest.fixture(scope="module")
def sources(folders: dict[str, Path]) -> dict[str, InvertedClip]:
    models = {family: load_model(folder, device="cpu", dtype="float32") for family, folder in folders.items()}
    return {family: inverted_clip(CLIP, 4, model=model) for family, model in models.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_an_edit_is_the_inpainting_pipeline(
    family: str, strength: float, folders: dict[str, Path], sources: dict[str, InvertedClip]
) -> None:
    source, steps, seed = sources[family], 5, 3
    sdedit = {"strength": strength, "noise": "shared"}
    edit = Edit(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        steps=steps,
        guidance_scale=SCALE,
        propagation="none",
        seed=seed,
        mode="sdedit",
        sdedit=sdedit,
    )
    pipeline = FAMILIES[family][1].from_pretrained(folders[family])
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    start = whole(build_mode(source, edit).initial_latents(sampling_steps(source.model, source.inversion, steps))[0])
    clean = source.latents(source.model.schedule.clean, list(range(FRAMES)))
    width, height = source.size

    def call(index: int) -> Tensor:
        frame = Image.fromarray(CLIP[index])
        own: dict[str, Any] = {"image": frame, "latents": start[[index]]}
        if strength < 1:  # given latents, the pipeline would take them for pure noise
            inside = torch.from_numpy(MASK[index] > 0)
            rest = torch.from_numpy(CLIP[[index]]).permute(0, 3, 1, 2) / 127.5 - 1
            own = {"image": clean[[index]], "masked_image_latents": rest.masked_fill(inside, 0.0)}
        made: Tensor = pipeline(
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=steps,
            guidance_scale=SCALE,
            generator=torch.Generator().manual_seed(seed),
            strength=strength,
            width=width,
            height=height,
            mask_image=Image.fromarray(MASK[index]),
            output_type="latent",
            **own,
        ).images
        return made

    expected = torch.cat([call(index) for index in range(FRAMES)])
    made = edited_latents(source, edit, [Region(mask=MASK, feather=0)])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(made, expected, rtol=0, atol=TOLERANCE)
    elsewhere = edited_latents(source, edit, [Region(mask=MASK, invert=True, feather=0)])
    assert (made - elsewhere).abs().max() > 100 * TOLERANCE


def edited_latents(source: InvertedClip, edit: Edit, regions: list[Region]) -> Tensor:
    guidance = build_guidance(source.model, PROMPT, NEGATIVE, SCALE, source.size)
    correspondence = build_correspondence(source, edit)
    within, _ = RegionFinder(source, edit, guidance.conditional, correspondence).find(regions)
    return whole(sample_edit(source, guidance, edit, correspondence, regions=within))


@pytest.mark.parametrize("mode", ["pnp", "sdedit", "shared", "controlnet", "flowedit"])
def test_every_mode_edits_inside_of_the_region_alone(
    mode: str, sources: dict[str, InvertedClip], tmp_path: Path
) -> None:
    modes = {
        "pnp": PnP(),
        "sdedit": SDEdit(),
        "shared": SDEdit(noise="shared"),
        "controlnet": ControlNet(path=str(save_tiny_controlnet(tmp_path))),
        "flowedit": FlowEdit(),
    }
    made = tokenflow.edit(sources["SD"], PROMPT, mode=modes[mode], regions=[Region(mask=MASK, feather=0)])
    assert np.array_equal(made.frames[MASK == 0], CLIP[MASK == 0])
    assert not np.array_equal(made.frames[MASK > 0], CLIP[MASK > 0])


@pytest.mark.parametrize("regions", [[Region(words="dog")], [Region(auto=True)], "auto"])
def test_regions_are_found_by_the_model_itself(regions: Any, sources: dict[str, InvertedClip]) -> None:
    made = tokenflow.edit(sources["SD"], PROMPT, regions=regions)
    assert len(made.regions) == 1


def test_images_from_a_prompt_are_those_of_a_mask_of_everything(folders: dict[str, Path]) -> None:
    model = load_model(folders["SD"], device="cpu", dtype="float32")
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folders["SD"])
    pipeline.set_progress_bar_config(disable=True)
    (image,) = tokenflow.generate(model, PROMPT, steps=3, seed=5)
    height, width = image.shape[:2]
    noise = model.draw_noise(1, (width, height), torch.Generator().manual_seed(5))
    expected = pipeline(
        prompt=PROMPT,
        image=Image.new("RGB", (width, height), "red"),
        mask_image=Image.new("L", (width, height), 255),
        num_inference_steps=3,
        guidance_scale=Edit(prompt="").guidance_scale,
        strength=1.0,
        latents=noise,
        height=height,
        width=width,
    ).images[0]
    assert np.abs(image.astype(int) - np.asarray(expected)).max() <= 1


def test_without_a_region_the_remedy_is_said(sources: dict[str, InvertedClip]) -> None:
    expected = r"inpainting model, .* edit\.regions is empty; set it to .*words: dog"
    with pytest.raises(ConfigError, match=expected) as said:
        tokenflow.edit(sources["SD"], PROMPT)
    assert "\n" not in str(said.value)


def test_keyframes_need_no_region(sources: dict[str, InvertedClip]) -> None:
    made = tokenflow.edit(sources["SD"], "", mode=Keyframes({0: 255 - CLIP[0]}))
    assert np.array_equal(made.frames[0], 255 - CLIP[0])
