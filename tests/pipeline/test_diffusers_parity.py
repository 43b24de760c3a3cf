"""Edits of single frames beside diffusers' pipelines from the same weights, prompts and noise, as latents.

Everything is float32, so that only the order of sums differs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor

from tests.tiny import inverted_clip, moving_square, tiny_pipeline, tiny_xl_pipeline, whole
from tokenflow.config import Edit
from tokenflow.diffusion.latents import Latents
from tokenflow.models.loading import load_model
from tokenflow.modes.controlnet import canny_edges
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.sampling import sample_edit
from tokenflow.pipeline.wiring import build_correspondence, build_guidance, build_mode

PROMPT, NEGATIVE, SCALE, SEED = "a golden tiger", "a cat", 5.0, 3
TOLERANCE = 1e-4
"""Of latents up to about ten."""

FAMILIES: dict[str, tuple[Any, Any, Any, Any]] = {
    "SD": (tiny_pipeline, StableDiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionControlNetPipeline),
    "SDXL": (
        tiny_xl_pipeline,
        StableDiffusionXLPipeline,
        StableDiffusionXLImg2ImgPipeline,
        StableDiffusionXLControlNetPipeline,
    ),
}

each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models, each with a ControlNet, as they are loaded from disk."""
    made = {}
    for family, (make, *_) in FAMILIES.items():
        folder = tmp_path_factory.mktemp("models") / family
        make().save_pretrained(folder)
        torch.manual_seed(3)
        network = ControlNetModel.from_unet(make().unet, conditioning_embedding_out_channels=(8, 16))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        network.save_pretrained(folder / "controlnet")
        made[family] = folder
    return made


def reference(pipeline_class: Any, folder: Path, **parts: Any) -> Any:
    """Diffusers' pipeline from the same folder."""
    pipeline = pipeline_class.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def sources(folders: dict[str, Path]) -> dict[str, InvertedClip]:
    frames = moving_square(2)
    return {
        family: inverted_clip(frames, 4, model=load_model(folder, device="cpu", dtype="float32"))
        for family, folder in folders.items()
    }


def settings(steps: int, **mode: Any) -> Edit:
    return Edit(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        steps=steps,
        guidance_scale=SCALE,
        seed=SEED,
        propagation="none",
        **mode,
    )


def edited(source: InvertedClip, edit: Edit) -> Tensor:
    guidance = build_guidance(source.model, PROMPT, NEGATIVE, SCALE, source.size)
    return whole(sample_edit(source, guidance, edit, build_correspondence(source, edit)))


def frame_by_frame(source: InvertedClip, call: Callable[[int], Any]) -> Tensor:
    return torch.cat([call(index).images for index in range(source.frame_count)])


def common(steps: int) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "num_inference_steps": steps,
        "guidance_scale": SCALE,
        "generator": torch.Generator().manual_seed(SEED),
        "output_type": "latent",
    }


def assert_same(made: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(made, expected, rtol=0, atol=TOLERANCE)


@each_family
@pytest.mark.parametrize("steps", [1, 10])
def test_an_edit_from_the_noisiest_level_is_text_to_image(
    family: str, steps: int, folders: dict[str, Path], sources: dict[str, InvertedClip]
) -> None:
    source, edit = sources[family], settings(steps, mode="sdedit", sdedit={"strength": 1.0, "noise": "shared"})
    start = start_of(source, edit)
    pipeline = reference(FAMILIES[family][1], folders[family])
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    width, height = source.size
    size = {"width": width, "height": height}
    expected = frame_by_frame(source, lambda index: pipeline(**common(steps), **size, latents=start[[index]]))
    assert_same(edited(source, edit), expected)


@each_family
@pytest.mark.parametrize("strength", [0.8, 0.75, 0.1])
def test_sdedit_is_image_to_image(
    family: str, strength: float, folders: dict[str, Path], sources: dict[str, InvertedClip]
) -> None:
    source, steps = sources[family], 10
    edit = settings(steps, mode="sdedit", sdedit={"strength": strength, "noise": "shared"})
    clean = source.latents(source.model.schedule.clean, list(range(source.frame_count)))
    pipeline = reference(FAMILIES[family][2], folders[family])
    expected = frame_by_frame(source, lambda index: pipeline(**common(steps), image=clean[[index]], strength=strength))
    assert_same(edited(source, edit), expected)


@each_family
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.0, 0.5), (0.25, 0.75)])
def test_controlnet_is_the_controlnet_pipeline(
    family: str, start: float, end: float, folders: dict[str, Path], sources: dict[str, InvertedClip]
) -> None:
    source, steps, path = sources[family], 10, folders[family] / "controlnet"
    controlnet = {"path": str(path), "scale": 0.8, "start": start, "end": end, "noise": "shared"}
    edit = settings(steps, mode="controlnet", controlnet=controlnet)
    initial = start_of(source, edit)
    pipeline = reference(FAMILIES[family][3], folders[family], controlnet=ControlNetModel.from_pretrained(path))
    span = {"control_guidance_start": start, "control_guidance_end": end, "controlnet_conditioning_scale": 0.8}

    def call(index: int) -> Any:
        edges = canny_edges(np.asarray(source.frames[index]))[None].float()
        return pipeline(**common(steps), **span, image=edges, latents=initial[[index]])

    assert_same(edited(source, edit), frame_by_frame(source, call))


def start_of(source: InvertedClip, edit: Edit) -> Latents:
    start, _ = build_mode(source, edit).initial_latents(sampling_steps(source.model, source.inversion, edit.steps))
    return start
