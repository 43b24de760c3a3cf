"""The networks, Stable Diffusion 1.x in miniature, in diffusers' and transformers' own classes; and their schedule."""

from diffusers import AutoencoderDC, AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.mini_sd.scene import PICTURE

LATENT_CHANNELS = 16
COMPRESSION = 8  # pixels to a latent, along each side
AUTOENCODER_WIDTHS = (16, 48, 96, 160)
FIRST_LOG_VARIANCE = -8.0
WIDTHS = (32, 64, 128, 160)
# One head at 32x32 tokens: with four heads of 8 channels, attention takes 70 % of a training step on a CPU.
HEADS = (1, 2, 4, 4)
TEXT_WIDTH = 128


def build_autoencoder() -> AutoencoderKL:
    """Narrow where the picture is large, for there a channel costs most.

    Normalised in few, wide groups: groups of two channels forget how bright a picture is, and colours come out wrong.
    """
    network = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=AUTOENCODER_WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * len(AUTOENCODER_WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(AUTOENCODER_WIDTHS),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=PICTURE,
        scaling_factor=1.0,
    )
    # Latents start out almost without noise: under noise of variance 1 a channel may never be taken into use.
    nn.init.zeros_(network.quant_conv.weight[LATENT_CHANNELS:])
    nn.init.constant_(network.quant_conv.bias[LATENT_CHANNELS:], FIRST_LOG_VARIANCE)
    return network


def encode(autoencoder: AutoencoderKL | AutoencoderDC, pictures: Tensor) -> Tensor:
    """Pictures b 3 H W in [0,1] to the means of their latents b c h w, not scaled."""
    encoded = autoencoder.encode(pictures * 2 - 1)
    return encoded.latent_dist.mode() if isinstance(autoencoder, AutoencoderKL) else encoded.latent


def compression(autoencoder: AutoencoderKL | AutoencoderDC) -> int:
    """Pixels to a latent, along each side."""
    config = autoencoder.config
    kl = isinstance(autoencoder, AutoencoderKL)
    return 2 ** (len(config.block_out_channels if kl else config.encoder_block_out_channels) - 1)


def build_unet() -> UNet2DConditionModel:
    """SD 1.x's topology: three levels with cross attention, one without, two layers a block."""
    return UNet2DConditionModel(
        sample_size=PICTURE // COMPRESSION,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=WIDTHS,
        attention_head_dim=HEADS,
        layers_per_block=2,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three layers; sentences of the grammar are short."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A copy of the UNet's first half; pictures enter it made eight times smaller, as latents are."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 64, 96))


def build_schedule() -> DDIMScheduler:
    """SD 1.x's schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
