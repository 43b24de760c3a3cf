"""What ships: the small model, its ControlNet and classifier, and the example configurations, as a user has them."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline, UNet2DConditionModel

import tokenflow
from tokenflow.diffusion import inversion
from tokenflow.diffusion.batches import as_tensor
from tokenflow.metrics import psnr
from tokenflow.metrics.scene_classifier import load_scene_classifier

PROJECT = Path(__file__).parent.parent
MODELS = PROJECT / "data" / "models"


def test_the_model_draws_what_it_is_asked_for_with_diffusers_alone() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(MODELS / "mini-sd", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    wanted = [("tiger", "snow"), ("bus", "a road"), ("elephant", "sand")]
    prompts = [f"a {thing} on {place.removeprefix('a ')}, 3d style" for thing, place in wanted]
    generator = torch.Generator().manual_seed(0)
    pictures = pipeline(prompts, num_inference_steps=25, guidance_scale=5, generator=generator, output_type="np").images
    network = load_scene_classifier(MODELS / "mini-classifier")
    with torch.no_grad():
        seen = network(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    told = [[list(network.kinds[kind])[index] for index in seen[kind].argmax(1)] for kind in ("object", "background")]
    assert list(zip(*told, strict=True)) == wanted


def test_the_controlnet_is_the_models_own() -> None:
    controlnet = ControlNetModel.from_pretrained(MODELS / "mini-controlnet-canny").config
    unet = UNet2DConditionModel.load_config(MODELS / "mini-sd" / "unet")
    assert controlnet.cross_attention_dim == unet["cross_attention_dim"]
    assert list(controlnet.block_out_channels) == unet["block_out_channels"]


def test_all_models_together_have_at_most_60_megabytes() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) <= 60e6


@pytest.mark.parametrize("name", ["dog_to_tiger", "dog_to_golden_dog_sdedit", "dog_on_snow_controlnet", "wolf"])
def test_an_example_runs_through_both_stages(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    config = tokenflow.load_config(
        f"configs/{name}.yaml",
        [
            "inversion.steps=4",
            "inversion.warn_below_psnr=0",
            "edit.steps=4",
            "clip.frames=3",
            "edit.keyframe_interval=2",
            f"output.dir={tmp_path / 'out'}",
            f"trajectories.dir={tmp_path / 'trajectories'}",
        ],
    )
    figures = tokenflow.preprocess(config).report["reconstruction"]
    assert figures["inversion_psnr"] > figures["autoencoder_psnr"] - 8 > 12  # far fewer steps than the example has
    result = tokenflow.run(config)
    assert len(result.frames) == 3
    assert result.report["metrics"]["change"]["whole"] > 3  # grey levels of 255


def test_latents_stored_in_float16_reconstruct_and_edit_as_those_in_float32_within_a_tenth_of_a_decibel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tokenflow.load_model(MODELS / "mini-sd", device="cpu", dtype="float32")
    clip = tokenflow.Video.read(PROJECT / "data" / "clips" / "dog_walk.mp4")
    clip = tokenflow.Video([frame.image for frame in islice(clip, 3)], rate=8)
    reconstructed, edited = [], []
    for dtype in (torch.float16, torch.float32):
        monkeypatch.setattr(inversion, "STORED_DTYPE", dtype)
        inverted = tokenflow.invert(clip, model, "a dog on grass, 3d style", steps=6)
        source = as_tensor(inverted.frames[[0, 1, 2]])
        reconstructed.append(tokenflow.reconstruct(inverted).psnr)
        frames = tokenflow.edit(inverted, "a tiger on grass, 3d style", steps=6).decoded
        edited.append(float(psnr(as_tensor(frames), source).mean()))
    assert reconstructed[0] == pytest.approx(reconstructed[1], abs=0.1)
    assert edited[0] == pytest.approx(edited[1], abs=0.1)
