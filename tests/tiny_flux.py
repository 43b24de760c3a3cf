"""FLUX.1 and FLUX.2 [klein] of a few ten thousand random weights, made from diffusers' own classes."""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxControlNetModel,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.tiny import TOKENS, tiny_tokenizer
from tokenflow.models.flux import Flux
from tokenflow.models.flux2 import Flux2
from tokenflow.models.vocabulary import Vocabulary

SIZES = {
    "in_channels": 16,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "joint_attention_dim": 12,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (2, 4, 2),
}

SIZES_2 = {
    "in_channels": 16,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "joint_attention_dim": 3 * 16,
    "timestep_guidance_channels": 16,
    "axes_dims_rope": (2, 2, 2, 2),
    "guidance_embeds": False,
}

DYNAMIC = {"use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15}

AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 32,
}
"""It shrinks images by 2."""


def tiny_flux_transformer(
    told_scale: bool = True, double: int = 2, single: int = 3, **sizes: Any
) -> FluxTransformer2DModel:
    """FLUX.1 dev, or schnell, which is not told a scale of guidance.

    Its last layer is weak, so that its flow changes slowly with the latents, as a trained model's does.
    """
    torch.manual_seed(20)
    layers = {"num_layers": double, "num_single_layers": single, "guidance_embeds": told_scale}
    transformer = FluxTransformer2DModel(**{**SIZES, **layers, **sizes})
    transformer.proj_out.weight.data *= 0.2
    return transformer.eval()


def tiny_flux_pipeline(schnell: bool = False, kontext: bool = False, **transformer: Any) -> FluxPipeline:
    """FLUX.1 dev, schnell or Kontext."""
    torch.manual_seed(21)
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
    pieces = ["<pad>", "</s>", "<unk>", "▁", *ascii_lowercase]
    t5 = T5Config(
        vocab_size=len(pieces),
        d_model=12,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    pipeline = FluxKontextPipeline if kontext else FluxPipeline
    return pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**({} if schnell else DYNAMIC)),
        vae=AutoencoderKL(
            **AUTOENCODER,
            scaling_factor=0.5,
            shift_factor=0.1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ).eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tiny_tokenizer(),
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer_2=T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0, model_max_length=TOKENS),
        transformer=tiny_flux_transformer(told_scale=not schnell, **transformer),
    )


def tiny_flux2_transformer(double: int = 1, single: int = 3, **sizes: Any) -> Flux2Transformer2DModel:
    """FLUX.2 [klein], with a weak last layer as well, and a prompt that counts."""
    torch.manual_seed(22)
    transformer = Flux2Transformer2DModel(num_layers=double, num_single_layers=single, **{**SIZES_2, **sizes})
    transformer.context_embedder.weight.data *= 4
    transformer.proj_out.weight.data *= 0.2
    return transformer.eval()


CHAT = "{% for message in messages %}{{ message['role'] + ' ' + message['content'] }}{% endfor %}"


def tiny_flux2_pipeline(distilled: bool = False, **transformer: Any) -> Flux2KleinPipeline:
    """FLUX.2 [klein], base or distilled."""
    torch.manual_seed(23)
    pieces = ["<|endoftext|>", *ascii_lowercase, "Ġ"]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=TOKENS
    )
    tokenizer.chat_template = CHAT
    text = Qwen3Config(
        vocab_size=len(pieces),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        initializer_range=0.5,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    vae = AutoencoderKLFlux2(**AUTOENCODER).eval()
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**DYNAMIC),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(text).eval(),
        tokenizer=tokenizer,
        transformer=tiny_flux2_transformer(**transformer),
        is_distilled=distilled,
    )


WORDS = Vocabulary(
    frozenset({"a", "dog", "tiger", "golden", "cat", "on", "grass"}), {"object": ("dog", "tiger", "cat")}
)


def tiny_flux(**options: Any) -> Flux:
    """FLUX.1 as tokenflow sees it."""
    return Flux(tiny_flux_pipeline(**options))


def tiny_flux2(**options: Any) -> Flux2:
    """FLUX.2 [klein] as tokenflow sees it."""
    return Flux2(tiny_flux2_pipeline(**options))


def save_tiny_flux_controlnet(folder: Path, **settings: Any) -> Path:
    """A ControlNet for the tiny FLUX.1, whose last layers are not zero, so that it does something."""
    torch.manual_seed(24)
    network = FluxControlNetModel(**{**SIZES, "num_layers": 1, "num_single_layers": 1, **settings})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder, safe_serialization=True)
    return folder
