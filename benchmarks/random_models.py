"""Stable Diffusion 1.5 and XL with random weights: networks of the published sizes, and narrow ones to try them out.

Time and memory do not depend on the values of the weights. Tokenizer and noise schedule come from a model on disk.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORDS = 77
"""Tokens that the text encoders read."""

PREDICTION_SCALE = 0.2
"""Factor on the UNet's last layer, so that its predictions stay small and latents finite in half precision."""


@dataclass(frozen=True)
class Family:
    """The sizes of a model.

    Attributes:
        name: as tables show it.
        side: pixels of the square frames it is for.
        unet: arguments of diffusers' UNet.
        vae_widths: channels of the autoencoder's levels.
        text: arguments of each text encoder's configuration; two for XL.
    """

    name: str
    side: int
    unet: Mapping[str, Any]
    vae_widths: tuple[int, ...]
    text: tuple[Mapping[str, Any], ...]

    @property
    def is_xl(self) -> bool:
        """Whether it is of SDXL's kind."""
        return len(self.text) == 2


CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_BIG_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
NARROW_CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 32,
}
VAE_WIDTHS = 128, 256, 512, 512
XL_BLOCKS: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
}

SD15 = Family(
    "SD 1.5",
    512,
    {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8, "cross_attention_dim": 768},
    VAE_WIDTHS,
    (CLIP_L,),
)
SDXL = Family(
    "SDXL",
    1024,
    {
        **XL_BLOCKS,
        "block_out_channels": (320, 640, 1280),
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + 1280,
    },
    VAE_WIDTHS,
    (CLIP_L, CLIP_BIG_G),
)
NARROW_SD15 = Family(
    "SD 1.5",
    64,
    {"block_out_channels": (32, 32, 64, 64), "attention_head_dim": 4, "cross_attention_dim": 32},
    (32, 32, 32, 32),
    (NARROW_CLIP,),
)
NARROW_SDXL = Family(
    "SDXL",
    64,
    {
        **XL_BLOCKS,
        "block_out_channels": (32, 32, 64),
        "attention_head_dim": (2, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": 64,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
    },
    (32, 32, 32, 32),
    (NARROW_CLIP, NARROW_CLIP),
)


def random_pipeline(family: Family, like: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """A diffusers pipeline with random weights, on a device and in a precision from the start.

    Args:
        family: its sizes.
        like: a model in diffusers' layout, whose tokenizer and scheduler are taken.
        device: where it is built.
        dtype: of its weights.
    """
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(like, subfolder="tokenizer", model_max_length=WORDS)
    scheduler = DDIMScheduler.from_pretrained(like, subfolder="scheduler")
    with _building(device, dtype):
        unet = UNet2DConditionModel(sample_size=family.side // 8, **family.unet)
        unet.conv_out.weight.data *= PREDICTION_SCALE
        vae = random_autoencoder(family)
        text = [_text_config(tokenizer, sizes) for sizes in family.text]
        first = CLIPTextModel(text[0])
        second = CLIPTextModelWithProjection(text[1]) if family.is_xl else None
    parts: dict[str, Any] = {"unet": unet, "vae": vae, "tokenizer": tokenizer, "scheduler": scheduler}
    if family.is_xl:
        encoders = {"text_encoder": first, "text_encoder_2": second, "tokenizer_2": tokenizer}
        return StableDiffusionXLPipeline(**parts, **encoders, add_watermarker=False)
    no_checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**parts, text_encoder=first, **no_checker)


def random_autoencoder(family: Family) -> AutoencoderKL:
    """An autoencoder of a family's sizes."""
    levels = len(family.vae_widths)
    return AutoencoderKL(
        block_out_channels=family.vae_widths,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        sample_size=family.side,
        scaling_factor=0.13025 if family.is_xl else 0.18215,
        force_upcast=family.is_xl,
    )


def _text_config(tokenizer: CLIPTokenizer, sizes: Mapping[str, Any]) -> CLIPTextConfig:
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return CLIPTextConfig(vocab_size=49408, max_position_embeddings=WORDS, **special, **sizes)


@contextmanager
def _building(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors on a device and in a precision, without a copy in main memory or in full precision first."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
