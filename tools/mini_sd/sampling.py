"""Pictures from prompts with networks that are still in training, through diffusers' own pipeline; and grids of
pictures.

Knows no scenes. Pictures are f H W 3, float32 in [0,1].
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from tools.mini_sd.networks import build_schedule

STEPS = 25
GUIDANCE = 5.0
SAMPLE_PROMPTS = (
    "a dog on grass, 3d style",
    "a tiger on snow, 3d style",
    "a golden horse on the sea, 3d style",
    "a marble cow on a wooden floor, 3d style",
    "a bus on a road, flat style",
    "a zebra on grass at sunset, flat style",
    "a silver car in front of a brick wall, 3d style",
    "a jade elephant on the moon, 3d style",
    "a giraffe on sand, flat style",
    "a police car on a road at night, 3d style",
    "a sheep on grass",
    "a golden tractor on snow, flat style",
    "a cat on a wooden floor, flat style",
    "a rhino on sand at sunset, 3d style",
    "a fire engine on the moon, 3d style",
    "a deer in a meadow at night",
)


def assemble(
    autoencoder: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as one pipeline, silent and without a safety checker."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline: StableDiffusionPipeline, prompts: Sequence[str], seed: int, **settings: object) -> np.ndarray:
    """One picture a prompt; the same seed gives the same pictures."""
    generator = torch.Generator("cpu").manual_seed(seed)
    options = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE} | settings
    with torch.autocast(pipeline.device.type, torch.bfloat16):
        result = pipeline(list(prompts), generator=generator, output_type="np", **options)
    return np.asarray(result.images, np.float32)


def write_grid(pictures: np.ndarray, columns: int, file: Path) -> None:
    """Pictures side by side as one PNG."""
    rows = [np.hstack(list(pictures[start : start + columns])) for start in range(0, len(pictures), columns)]
    grid = np.round(np.vstack(rows).clip(0, 1) * 255).astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))
