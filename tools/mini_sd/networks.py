"""The networks of the diffusion model: Stable Diffusion 1.x in miniature, in diffusers' and transformers' own
classes.

Knows shapes and schedules; knows no training and no scenes.
"""

from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTHS = (32, 64, 128, 160)
# One head at 32x32 tokens: with four heads of 8 channels, attention takes 70 % of a training step on a CPU.
HEADS = (1, 2, 4, 4)
TEXT_WIDTH = 128


def build_unet() -> UNet2DConditionModel:
    """SD 1.x's topology: three levels with cross attention, one without, two layers a block."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
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
    """A copy of the UNet's first half; pictures enter it made four times smaller, as latents are."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 64))


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
