"""Sana and SANA-Sprint of a few ten thousand random weights, made from diffusers' own classes."""

from pathlib import Path
from string import ascii_lowercase

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaControlNetModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from tokenflow.models.sana import Sana
from tokenflow.models.vocabulary import Vocabulary

SIZES = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": 16,
    "sample_size": 8,
}

TOKENS = 32


def tiny_transformer(sprint: bool = False, layers: int = 4) -> SanaTransformer2DModel:
    """Sana 1.0; or SANA-Sprint, which normalises queries and keys and is told its guidance.

    Its last layer is weak, so that its flow changes slowly with the latents, as a trained model's does.
    """
    torch.manual_seed(10)
    more = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"} if sprint else {}
    transformer = SanaTransformer2DModel(num_layers=layers, **SIZES, **more)
    transformer.proj_out.weight.data *= 0.2
    return transformer.eval()


def tiny_autoencoder() -> AutoencoderDC:
    """An autoencoder that shrinks images by 2."""
    torch.manual_seed(11)
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (3,)),
        decoder_qkv_multiscales=((), (3,)),
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.5,
    ).eval()


def tiny_gemma() -> tuple[GemmaTokenizer, Gemma2Model]:
    """A decoder of one layer that reads letter by letter, since its tokenizer has no merges."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *ascii_lowercase, *" ,.:'-\n", *ascii_lowercase.upper(), ">"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)
    torch.manual_seed(12)
    config = Gemma2Config(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return tokenizer, Gemma2Model(config).eval()


def tiny_sana_pipeline(layers: int = 4) -> SanaPipeline:
    """Sana with a solver of first order, which is Euler's method."""
    tokenizer, text_encoder = tiny_gemma()
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=1
    )
    return SanaPipeline(tokenizer, text_encoder, tiny_autoencoder(), tiny_transformer(layers=layers), scheduler)


def tiny_sprint_pipeline() -> SanaSprintPipeline:
    """SANA-Sprint."""
    tokenizer, text_encoder = tiny_gemma()
    return SanaSprintPipeline(
        tokenizer, text_encoder, tiny_autoencoder(), tiny_transformer(sprint=True), SCMScheduler()
    )


WORDS = Vocabulary(
    frozenset({"a", "dog", "tiger", "golden", "cat", "on", "grass"}), {"object": ("dog", "tiger", "cat")}
)


def tiny_sana(layers: int = 4) -> Sana:
    """Sana as tokenflow sees it, with a closed vocabulary, so that its prompts are short."""
    return Sana(tiny_sana_pipeline(layers), WORDS)


def tiny_sprint() -> Sana:
    """SANA-Sprint as tokenflow sees it."""
    return Sana(tiny_sprint_pipeline(), WORDS)


def save_tiny_sana_controlnet(folder: Path) -> Path:
    """A ControlNet for the tiny Sana, whose last layers are not zero, so that it does something."""
    torch.manual_seed(13)
    network = SanaControlNetModel(num_layers=2, **SIZES)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder, safe_serialization=True)
    return folder
