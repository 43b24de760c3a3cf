"""FLUX.1 and FLUX.2 [klein] in miniature, in diffusers' and transformers' own classes.

They share the autoencoder of mini-sd, whose 16 channels at an eighth of the size are FLUX.1's. A token is 2 x 2
latents: 256 tokens for a picture of 256 pixels.
"""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import (
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from tools.mini_flux.tokenizers import LENGTH
from tools.mini_sd.networks import LATENT_CHANNELS, TEXT_WIDTH, build_text_encoder

TOKEN = 2  # latents of a token, along each side
HEADS = 4
HEAD_WIDTH = 48
QWEN_LAYERS = 4
READ_LAYERS = (1, 2, 3)  # quarters of the layers, as klein reads 9, 18 and 27 of 36

# Levels lean towards noise as the pipelines' own schedules do at 256 tokens.
FLUX_SHIFT = 1.65  # e^0.5
KLEIN_SHIFT = 5.0  # e^1.8 for 25 steps is 6; smaller, as fine detail is learnt at low noise


def build_flux(guided: bool) -> FluxTransformer2DModel:
    """Three joint blocks, six single ones; guided as FLUX.1 [dev], or as [schnell] is, not."""
    network = FluxTransformer2DModel(
        in_channels=LATENT_CHANNELS * TOKEN**2,
        num_layers=3,
        num_single_layers=6,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=guided,
        axes_dims_rope=(8, 20, 20),
    )
    start_as_identity([network.norm_out, *(b.norm1 for b in network.transformer_blocks)], network.proj_out)
    start_as_identity([b.norm1_context for b in network.transformer_blocks])
    start_as_identity([b.norm for b in network.single_transformer_blocks])
    return network


def build_klein() -> Flux2Transformer2DModel:
    """One joint block, six parallel ones, as klein has four times as many of these."""
    network = Flux2Transformer2DModel(
        in_channels=LATENT_CHANNELS * TOKEN**2,
        num_layers=1,
        num_single_layers=6,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=len(READ_LAYERS) * TEXT_WIDTH,
        axes_dims_rope=(12, 12, 12, 12),
        guidance_embeds=False,
    )
    modulations = (
        network.double_stream_modulation_img,
        network.double_stream_modulation_txt,
        network.single_stream_modulation,
        network.norm_out,
    )
    start_as_identity(modulations, network.proj_out)
    return network


def start_as_identity(modulations: list[nn.Module] | tuple[nn.Module, ...], last: nn.Linear | None = None) -> None:
    """Adaptive normalisations that change nothing and gates that are closed (Peebles and Xie, ICCV 2023)."""
    for layer in [*(modulation.linear for modulation in modulations), *([last] if last else [])]:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The encoder whose pooled output goes with the time; that of mini-sd, trained anew."""
    return build_text_encoder(tokenizer)


def build_t5(tokenizer: PreTrainedTokenizerBase) -> T5EncoderModel:
    """Three layers."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=TEXT_WIDTH // HEADS,
            d_ff=2 * TEXT_WIDTH,
            num_layers=3,
            num_heads=HEADS,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_qwen(tokenizer: PreTrainedTokenizerBase) -> Qwen3ForCausalLM:
    """Four layers, of which klein reads three."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            num_hidden_layers=QWEN_LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS // 2,
            head_dim=TEXT_WIDTH // HEADS,
            max_position_embeddings=2 * LENGTH,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_flux_schedule(dynamic: bool) -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1 [dev]'s and klein's, whose shift follows the number of tokens; or [schnell]'s, without one."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0 if dynamic else 1.0,
        use_dynamic_shifting=dynamic,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def pack(latents: Tensor) -> Tensor:
    """Latents b c h w to tokens b (h/2 · w/2) (c · 2 · 2), as FLUX.1 orders them; FLUX.2 orders them alike."""
    batch, channels, height, width = latents.shape
    tokens = latents.view(batch, channels, height // TOKEN, TOKEN, width // TOKEN, TOKEN)  # b c h 2 w 2
    return tokens.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * TOKEN**2)  # b hw c22


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`: latents b c height width."""
    batch, _, numbers = tokens.shape
    channels = numbers // TOKEN**2
    latents = tokens.view(batch, height // TOKEN, width // TOKEN, channels, TOKEN, TOKEN)  # b h w c 2 2
    return latents.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)


def places(side: int, full: int, axes: int, time: float = 0.0) -> Tensor:
    """Positions side² axes of the tokens of a square picture: time, row, column, and with four axes 0.

    A picture made smaller keeps its places: the tokens of one of half the size lie 2 apart, between those of `full`.
    """
    stride = full / side
    line = (torch.arange(side) + 0.5) * stride - 0.5
    row, column = torch.meshgrid(line, line, indexing="ij")
    parts = [torch.full_like(row, time), row, column, torch.zeros_like(row)][:axes]
    return torch.stack(parts, dim=-1).view(-1, axes)
