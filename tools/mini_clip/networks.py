"""CLIP in miniature, in transformers' own classes."""

from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from tools.mini_sd.networks import TEXT_WIDTH

SIDE = 128  # pixels of a picture as the model sees it
PATCH = 16
WIDTH = 128
MEAN, SPREAD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Four layers for pictures, of 64 patches, and three for sentences."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=3 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH))


def build_processor() -> CLIPImageProcessor:
    """Whole pictures, made as small as the model sees them."""
    return CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        image_mean=list(MEAN),
        image_std=list(SPREAD),
    )
