"""A Stable Diffusion of a few hundred thousand weights, made from diffusers' own classes, and clips for it."""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import DiffusionSchedule
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.inversion import InversionOptions, complete_inversion
from tokenflow.store.memory import MemoryInversion
from tokenflow.video import Video, VideoWriter

TOKENS = 32


def tiny_unet(levels: int = 3, layers: int = 1) -> UNet2DConditionModel:
    """A UNet of SD's topology: cross-attention on every level but the coarsest.

    Its last layer is weak, so that its noise changes slowly with the latents, as a trained model's does.
    """
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32, 32)[:levels],
        layers_per_block=layers,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    unet.conv_out.weight.data *= 0.2
    return unet


def tiny_vae() -> AutoencoderKL:
    """An autoencoder that shrinks pictures by 2."""
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=1.0,
    )


def tiny_tokenizer() -> CLIPTokenizer:
    """Letter by letter, since it has no merges."""
    letters = [letter + end for letter in ascii_lowercase for end in ("", "</w>")]
    vocabulary = {token: index for index, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def tiny_pipeline(
    levels: int = 3, layers: int = 1, prediction_type: str = "epsilon", zero_terminal_snr: bool = False
) -> StableDiffusionPipeline:
    """All parts together."""
    torch.manual_seed(2)
    text = CLIPTextConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=zero_terminal_snr,
        timestep_spacing="trailing" if zero_terminal_snr else "leading",
    )
    return StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text),
        tokenizer=tiny_tokenizer(),
        unet=tiny_unet(levels, layers),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_lcm_pipeline() -> StableDiffusionPipeline:
    """A latent consistency model: it renoises, and its UNet is told the scale of guidance."""
    plain = tiny_pipeline()
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(plain.unet.config, time_cond_proj_dim=8)
    unet.conv_out.weight.data *= 0.2
    scheduler = LCMScheduler.from_config(plain.scheduler.config, set_alpha_to_one=True)
    parts = {**plain.components, "unet": unet, "scheduler": scheduler}
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def inpainting(pipeline: Any) -> Any:
    """Another pipeline with a UNet that also takes a mask and the rest of the image."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(pipeline.unet.config, in_channels=9)
    unet.conv_out.weight.data *= 0.2
    pipeline.register_modules(unet=unet)
    return pipeline


def tiny_turbo_pipeline() -> StableDiffusionPipeline:
    """A model distilled to few deterministic steps, without guidance."""
    plain = tiny_pipeline()
    scheduler = EulerDiscreteScheduler.from_config(plain.scheduler.config, timestep_spacing="trailing")
    return StableDiffusionPipeline(**{**plain.components, "scheduler": scheduler}, requires_safety_checker=False)


def tiny_xl_pipeline() -> StableDiffusionXLPipeline:
    """SDXL's parts: two text encoders, no attention at the finest level, sizes as conditions, three levels."""
    torch.manual_seed(4)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=16 + 24,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 16,
    )
    plain = tiny_pipeline()
    text = {**plain.text_encoder.config.to_dict(), "num_hidden_layers": 3, "projection_dim": 16}
    first, second = (CLIPTextConfig(**{**text, "hidden_size": width}) for width in (16, 24))
    return StableDiffusionXLPipeline(
        vae=plain.vae,
        text_encoder=CLIPTextModel(first),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=plain.tokenizer,
        tokenizer_2=plain.tokenizer,
        unet=unet,
        scheduler=plain.scheduler,
        add_watermarker=False,
    )


def tiny_model(
    levels: int = 3, layers: int = 1, prediction_type: str = "epsilon", zero_terminal_snr: bool = False
) -> StableDiffusion:
    """The tiny model as tokenflow sees it."""
    return StableDiffusion(tiny_pipeline(levels, layers, prediction_type, zero_terminal_snr))


def level(timestep: int) -> Level:
    """The noise level of the tiny model at a time step of its training."""
    return DiffusionSchedule(tiny_pipeline().scheduler.config).level(timestep)


def inverted_clip(
    frames: np.ndarray, steps: int, *, iterations: int = 1, prompt: str = "a dog on grass", model: Any = None
) -> InvertedClip:
    """Frames inverted with the tiny model, in memory; many iterations make sampling the exact inverse."""
    model = model or tiny_model()
    options = InversionOptions(prompt, None, "fit", steps, iterations, batch_size=4)
    clip = Video(frames, rate=1)
    inversion = MemoryInversion()
    inversion.write_frames((frame.image, frame.source_time, frame.duration) for frame in clip)
    return complete_inversion(inversion, clip, model, options)


def whole(latents: Latents) -> torch.Tensor:
    """All of them, f c h w."""
    return latents[list(range(len(latents)))]


def save_tiny_model(folder: Path) -> Path:
    """The tiny model as a folder in diffusers' layout."""
    tiny_pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


def save_tiny_controlnet(folder: Path) -> Path:
    """A ControlNet for the tiny model, whose last layers are not zero, so that it does something."""
    torch.manual_seed(3)
    network = ControlNetModel.from_unet(tiny_unet(), conditioning_embedding_out_channels=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    network.save_pretrained(folder, safe_serialization=True)
    return folder


def save_tiny_setup(folder: Path, frames: int, steps: int) -> Path:
    """A model, a clip of 24×16 pixels, and a configuration of both stages for them, which is returned.

    Results go to `out`, trajectories to `trajectories`, both in the folder.
    """
    save_tiny_model(folder / "model")
    with VideoWriter(folder / "clip.mp4", width=24, height=16, rate=10) as video:
        for picture in moving_square(frames):
            video.write(picture)
    settings = {
        "clip": {"path": str(folder / "clip.mp4"), "prompt": "a dog", "size": 16},
        "model": {"path": str(folder / "model"), "device": "cpu"},
        "inversion": {"steps": steps, "warn_below_psnr": 0},
        "edit": {"prompt": "a golden tiger", "steps": steps, "keyframe_interval": 2},
        "output": {"dir": str(folder / "out")},
        "trajectories": {"dir": str(folder / "trajectories")},
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP of random weights with its preprocessing, for pictures of 32×32 pixels."""
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 64, "max_position_embeddings": TOKENS, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tiny_tokenizer()).save_pretrained(folder)
    return folder


def moving_square(frames: int, height: int = 16, width: int = 24, step: int = 1) -> np.ndarray:
    """A textured square that moves to the right over a textured ground: f H W 3 uint8."""
    noise = np.random.default_rng(0)
    ground = noise.integers(0, 120, (height, width, 3), dtype=np.uint8)
    square = noise.integers(120, 255, (6, 6, 3), dtype=np.uint8)
    clip = np.repeat(ground[None], frames, 0)
    for frame in range(frames):
        left = 2 + frame * step % (width - 8)
        clip[frame, 5:11, left : left + 6] = square
    return clip
