"""Edits of single frames beside diffusers' pipelines from the same weights, prompts and noise, as latents.

Everything is float32, so that only the order of sums differs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    DDIMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
)
from torch import Tensor

from tests.tiny import inverted_clip, moving_square, tiny_pipeline, tiny_xl_pipeline, whole
from tokenflow.config import ControlNet, Edit
from tokenflow.diffusion.latents import Latents
from tokenflow.models.loading import load_model
from tokenflow.modes.control_images import control_images
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.sampling import sample_edit
from tokenflow.pipeline.wiring import build_correspondence, build_guidance, build_mode

PROMPT, NEGATIVE, SCALE, SEED = "a golden tiger", "a cat", 5.0, 3
TOLERANCE = 1e-4
"""Of latents up to about ten."""

SD = StableDiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionControlNetPipeline

FAMILIES: dict[str, tuple[Any, Any, Any, Any]] = {
    "SD": (tiny_pipeline, *SD),
    "velocity": (partial(tiny_pipeline, prediction_type="v_prediction"), *SD),
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
        return pipeline(**common(steps), **span, image=edges_of(source, index), latents=initial[[index]])

    assert_same(edited(source, edit), frame_by_frame(source, call))


def edges_of(source: InvertedClip, index: int) -> Tensor:
    """A frame's edges, 1 3 H W in [0, 1]."""
    return control_images(source, ControlNet())([index])


@each_family
def test_two_controlnets_are_the_controlnet_pipeline_with_both(
    family: str, folders: dict[str, Path], sources: dict[str, InvertedClip], tmp_path: Path
) -> None:
    source, steps, path = sources[family], 4, folders[family] / "controlnet"
    torch.manual_seed(7)
    other = ControlNetModel.from_pretrained(path)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    other.save_pretrained(tmp_path)
    controlnet = {"path": str(path), "scale": 0.8, "noise": "shared", "also": [{"path": str(tmp_path), "scale": 0.5}]}
    edit = settings(steps, mode="controlnet", controlnet=controlnet)
    initial = start_of(source, edit)
    both = [ControlNetModel.from_pretrained(each) for each in (path, tmp_path)]
    pipeline = reference(FAMILIES[family][3], folders[family], controlnet=both)

    def call(index: int) -> Any:
        edges = edges_of(source, index)
        return pipeline(
            **common(steps),
            image=[edges, edges],
            controlnet_conditioning_scale=[0.8, 0.5],
            latents=initial[[index]],
        )

    assert_same(edited(source, edit), frame_by_frame(source, call))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_t2i_adapter_is_the_adapter_pipeline(
    channels: int, folders: dict[str, Path], sources: dict[str, InvertedClip], tmp_path: Path
) -> None:
    source, steps = sources["SD"], 4
    torch.manual_seed(5)
    T2IAdapter(channels, [16, 32, 32], num_res_blocks=1, downscale_factor=2).save_pretrained(tmp_path)
    edit = settings(steps, mode="controlnet", controlnet={"path": str(tmp_path), "scale": 0.8, "noise": "shared"})
    initial = start_of(source, edit)
    pipeline = reference(StableDiffusionAdapterPipeline, folders["SD"], adapter=T2IAdapter.from_pretrained(tmp_path))

    def call(index: int) -> Any:
        edges = edges_of(source, index)[:, :channels]
        return pipeline(**common(steps), image=edges, adapter_conditioning_scale=0.8, latents=initial[[index]])

    assert_same(edited(source, edit), frame_by_frame(source, call))


def test_a_union_controlnet_is_the_union_pipeline(
    folders: dict[str, Path], sources: dict[str, InvertedClip], tmp_path: Path
) -> None:
    source, steps = sources["SDXL"], 4
    torch.manual_seed(6)
    unet = load_model(folders["SDXL"], device="cpu", dtype="float32").network
    shared = ("in_channels", "down_block_types", "block_out_channels", "layers_per_block", "cross_attention_dim")
    more = ("norm_num_groups", "attention_head_dim", "use_linear_projection", "transformer_layers_per_block")
    added = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")
    network = ControlNetUnionModel(
        **{name: unet.config[name] for name in (*shared, *more, *added)},
        conditioning_embedding_out_channels=(8, 16),
        num_control_type=6,
        num_trans_head=2,
        num_trans_channel=16,
        num_proj_channel=16,
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    network.save_pretrained(tmp_path)
    edit = settings(steps, mode="controlnet", controlnet={"path": str(tmp_path), "scale": 0.8, "noise": "shared"})
    initial = start_of(source, edit)
    pipeline = reference(StableDiffusionXLControlNetUnionPipeline, folders["SDXL"], controlnet=network)

    def call(index: int) -> Any:
        return pipeline(
            **common(steps),
            control_image=edges_of(source, index),
            control_mode=3,
            controlnet_conditioning_scale=0.8,
            latents=initial[[index]],
        )

    assert_same(edited(source, edit), frame_by_frame(source, call))


def start_of(source: InvertedClip, edit: Edit) -> Latents:
    start, _ = build_mode(source, edit).initial_latents(sampling_steps(source.model, source.inversion, edit.steps))
    return start
