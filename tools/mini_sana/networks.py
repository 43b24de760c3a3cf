"""Sana and SANA-Sprint in miniature, in diffusers' and transformers' own classes."""

import inspect

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaControlNetModel,
    SanaTransformer2DModel,
    SCMScheduler,
)
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from tools.mini_sd.networks import TEXT_WIDTH
from tools.mini_sd.scene import PICTURE

LATENT_CHANNELS = 32
WIDTHS = (16, 32, 128, 128, 128)  # the picture's size, and four times half of it; shortcuts want multiples
SHIFT = 3.0  # of Sana below 4096 pixels
HEADS, HEAD_WIDTH = 5, 32
LAYERS = 8
CONTROL_LAYERS = 3
TIME_SCALE = 0.001  # Sana and SANA-Sprint are then told the same numbers, times between 0 and 1


def build_autoencoder() -> AutoencoderDC:
    """Narrow where the picture is large; attention in the two smallest sizes, as in DC-AE."""
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 2
    return AutoencoderDC(
        latent_channels=LATENT_CHANNELS,
        attention_head_dim=16,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=WIDTHS,
        decoder_block_out_channels=WIDTHS,
        encoder_layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        encoder_qkv_multiscales=((),) * 3 + ((5,),) * 2,
        decoder_qkv_multiscales=((),) * 3 + ((5,),) * 2,
        # Shortcuts around the innermost layers would keep `normalise_latents` from folding into them.
        encoder_out_shortcut=False,
        decoder_in_shortcut=False,
    )


@torch.no_grad()
def normalise_latents(network: AutoencoderDC, latents: Tensor) -> None:
    """Gives each channel of latents like these (b c h w) mean 0 and variance 1; pictures come out as before.

    As tools.mini_sd.autoencoder does it. The decoder's first layer pads with zeros, which after the change stand for
    the mean; at the border pictures therefore change a little.
    """
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    out, back = network.encoder.conv_out, network.decoder.conv_in
    back.bias += back.weight.sum(dim=(2, 3)) @ mean
    back.weight *= spread[None, :, None, None]
    out.bias.sub_(mean).div_(spread)
    out.weight /= spread[:, None, None, None]


def build_sana(guided: bool) -> SanaTransformer2DModel:
    """Sana; guided as SANA-Sprint is. Without norms of queries and keys, which a ControlNet of it could not have."""
    network = SanaTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        num_layers=LAYERS,
        num_cross_attention_heads=HEADS,
        cross_attention_head_dim=HEAD_WIDTH,
        cross_attention_dim=HEADS * HEAD_WIDTH,
        caption_channels=TEXT_WIDTH,
        mlp_ratio=2.5,
        sample_size=PICTURE // 16,
        guidance_embeds=guided,
        timestep_scale=TIME_SCALE,
    )
    nn.init.zeros_(network.proj_out.weight)
    nn.init.zeros_(network.proj_out.bias)
    return network


def build_controlnet(transformer: SanaTransformer2DModel) -> SanaControlNetModel:
    """The first blocks of Sana, copied, behind layers that start as zero."""
    known = inspect.signature(SanaControlNetModel.__init__).parameters
    shared = {name: value for name, value in transformer.config.items() if name in known}
    network = SanaControlNetModel(**shared | {"num_layers": CONTROL_LAYERS})
    weights = {name: value for name, value in transformer.state_dict().items() if name in network.state_dict()}
    network.load_state_dict(weights, strict=False)
    return network


def build_text_encoder(tokenizer: GemmaTokenizer) -> Gemma2Model:
    """Three layers."""
    return Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=TEXT_WIDTH // 4,
            query_pre_attn_scalar=TEXT_WIDTH // 4,
            max_position_embeddings=2 * tokenizer.model_max_length,
            attn_logit_softcapping=None,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_schedule() -> DPMSolverMultistepScheduler:
    """Sana's."""
    return DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=SHIFT, prediction_type="flow_prediction")


def build_sprint_schedule() -> SCMScheduler:
    """SANA-Sprint's."""
    return SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
