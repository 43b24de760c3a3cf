"""Checkpoints that once crashed midway edit a clip from end to end, as the same weights in memory do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderTiny, StableDiffusionPipeline

import tokenflow
from tests.models.checkpoints.original import save_original
from tests.tiny import moving_square, save_tiny_controlnet, tiny_pipeline, tiny_xl_pipeline
from tokenflow.models.stable_diffusion import StableDiffusion


def edited(model: Any, mode: Any = None) -> np.ndarray:
    clip = tokenflow.Video(moving_square(3), rate=8)
    inverted = tokenflow.invert(clip, model, "a dog on grass", steps=2)
    return tokenflow.edit(inverted, "a tiger on grass", mode=mode or tokenflow.PnP(), steps=2).frames


def with_taesd() -> StableDiffusionPipeline:
    torch.manual_seed(1)
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    pipeline = tiny_pipeline()
    pipeline.register_modules(vae=AutoencoderTiny(**widths, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)))
    return pipeline


def with_asymmetric() -> StableDiffusionPipeline:
    torch.manual_seed(1)
    vae = AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        down_block_out_channels=(8, 8),
        up_block_types=("UpDecoderBlock2D",) * 2,
        up_block_out_channels=(8, 16),
        norm_num_groups=4,
        scaling_factor=1.0,
    )
    pipeline = tiny_pipeline()
    pipeline.register_modules(vae=vae)
    return pipeline


def with_velocity_up_to_pure_noise() -> StableDiffusionPipeline:
    return tiny_pipeline(prediction_type="v_prediction", zero_terminal_snr=True)


@pytest.mark.parametrize("make", [with_taesd, with_asymmetric, with_velocity_up_to_pure_noise])
def test_folders(make: Any, tmp_path: Path) -> None:
    make().save_pretrained(tmp_path / "model")
    loaded = tokenflow.load_model(tmp_path / "model", device="cpu", dtype="float32")
    assert np.array_equal(edited(loaded), edited(StableDiffusion(make())))


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl_pipeline])
def test_files(make: Any, tmp_path: Path) -> None:
    pipeline = make()
    pipeline.save_pretrained(tmp_path / "base")
    file = save_original(tmp_path / "model.safetensors", pipeline)
    loaded = tokenflow.load_model(file, base=str(tmp_path / "base"), device="cpu", dtype="float32")
    assert np.array_equal(edited(loaded), edited(StableDiffusion(make())))


def test_a_controlnet_in_one_file(tmp_path: Path) -> None:
    folder = save_tiny_controlnet(tmp_path / "controlnet")
    (file,) = folder.glob("*.safetensors")
    modes = [tokenflow.ControlNet(path=str(path)) for path in (file, folder)]
    one, other = (edited(StableDiffusion(tiny_pipeline()), mode) for mode in modes)
    assert np.array_equal(one, other)
