"""Files that are not whole checkpoints are named by what they are."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from tests.models.checkpoints.original import contiguous, original_weights, prefixed, unet_weights, vae_weights
from tests.tiny import save_tiny_controlnet, tiny_pipeline, tiny_unet, tiny_vae
from tokenflow.errors import ModelError
from tokenflow.models.loading import load_model

SOMETHING = torch.zeros(2, 2)


def sd(channels: int = 4) -> dict[str, Tensor]:
    """The names of a whole checkpoint, with a UNet that takes so many channels."""
    weights = original_weights(tiny_pipeline())
    return weights | {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(16, channels, 3, 3)}


def without_text() -> dict[str, Tensor]:
    return {name: weight for name, weight in sd().items() if not name.startswith("cond_stage_model.")}


def named(*names: str, like: Tensor = SOMETHING) -> dict[str, Tensor]:
    return dict.fromkeys(names, like)


KOHYA = named(*(f"lora_unet_down_blocks_0_attentions_0_proj_in.{part}.weight" for part in ("lora_up", "lora_down")))
PEFT = named(*(f"unet.down_blocks.0.attentions.0.attn1.to_q.lora_{part}.weight" for part in "AB"))
LYCORIS = named(*(f"lycoris_unet_0.{part}" for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")))

CHROMA = named("distilled_guidance_layer.in_proj.bias", "double_blocks.0.img_attn.norm.key_norm.scale", "x", "y")
SD3 = named("joint_blocks.0.context_block.adaLN_modulation.1.bias", "joint_blocks.37.x_block.mlp.fc1.weight", "x", "y")
WAN = {"patch_embedding.weight": torch.zeros(2, 2, 1, 1, 1)} | named("head.modulation", "blocks.0.modulation", "x")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (KOHYA, "is a LoRA, not a whole model: set model.loras to"),
        (PEFT, "is a LoRA"),
        (LYCORIS, "is a LoRA"),
        ({"emb_params": torch.zeros(4, 768)}, "is a textual inversion, which only adds a word"),
        ({"clip_l": torch.zeros(4, 768), "clip_g": torch.zeros(4, 1280)}, "is a textual inversion"),
        ({"<cat-toy>": torch.zeros(768)}, "is a textual inversion"),
        (tiny_vae().state_dict(), r"is a VAE alone: set model\.vae to it"),
        (vae_weights(tiny_vae()), "is a VAE alone"),
        (prefixed("first_stage_model.", vae_weights(tiny_vae())), "is a VAE alone"),
        (AutoencoderTiny().state_dict(), "is a VAE alone"),
        (tiny_unet().state_dict(), "is a UNet alone, without text encoder and VAE"),
        (unet_weights(tiny_unet()), "is a UNet alone"),
        (prefixed("model.diffusion_model.", unet_weights(tiny_unet())), "is a UNet alone"),
        (without_text(), "is without a text encoder"),
        (tiny_pipeline().text_encoder.state_dict(), "is a text encoder alone"),
        (sd(8), "is an InstructPix2Pix model"),
        (sd(5), "is a depth model"),
        (sd() | named("edm_mean", "edm_std"), r"is a checkpoint of Playground 2\.5"),
        (sd() | named("edm_vpred.sigma_max", "edm_vpred.sigma_min"), "is a checkpoint of CosXL, whose noise levels"),
        (sd(8) | named("cc_projection.weight"), "is a Zero123, which needs an image"),
        (sd() | named("model.diffusion_model.input_blocks.1.0.time_stack.x"), "is a Stable Video Diffusion"),
        (sd() | named("noise_augmentor.betas"), "is an unCLIP model"),
        (
            sd() | named("conditioner.embedders.0.model.transformer.resblocks.0.ln_1.bias"),
            "is the SDXL refiner, which only finishes images",
        ),
        (named(*(f"image_proj.{name}" for name in "abcd")), "is an IP-Adapter"),
        (named(*(f"down_blocks.0.motion_modules.{number}.x" for number in range(4))), "is a motion module of Anim"),
        (named(*(f"vision_model.{name}" for name in "abcd")), "is an image encoder alone"),
        (named("token_embedding.weight", *(f"transformer.resblocks.{n}.x" for n in range(3))), "is a text encoder"),
        (named(*(f"model.1.sub.{number}.RDB1.conv1.0.weight" for number in range(4))), "is an upscaler of images"),
        (prefixed("diffusion_model.", unet_weights(tiny_unet())), "is a UNet alone"),
        (named(*(f"adapter.body.{name}" for name in "abcd")), "is a T2I-Adapter"),
        (CHROMA, "is a checkpoint of chroma, which is not supported"),
        (SD3, "is a checkpoint of sd35_large, which is not supported"),
        (WAN, "is a checkpoint of wan-"),
        (named(*"abcd"), "is of an unknown kind"),
    ],
)
def test_what_a_file_is_instead_is_said_in_one_line(
    weights: Mapping[str, Tensor], said: str, saved: Path, tmp_path: Path
) -> None:
    save_file(contiguous(weights), tmp_path / "file.safetensors")
    with pytest.raises(ModelError, match=said) as caught:
        load_model(tmp_path / "file.safetensors", base=str(saved), device="cpu")
    assert "\n" not in str(caught.value)
    assert "expected a whole Stable Diffusion 1.x, 2.x or XL checkpoint" in str(caught.value)


def test_a_shard_is_told_by_its_name(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"is one shard of several; set model\.path to the folder of the whole model"):
        load_model("unet-00001-of-00003.safetensors", base=str(saved), device="cpu")


def test_a_lora_is_told_with_the_setting_that_takes_it(saved: Path, tmp_path: Path) -> None:
    save_file(contiguous(KOHYA), tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match=rf"set model\.loras to \[{{path: {tmp_path}/lora\.safetensors}}\]"):
        load_model(tmp_path / "lora.safetensors", base=str(saved), device="cpu")


def test_a_controlnet_is_told_where_it_belongs(saved: Path, tmp_path: Path) -> None:
    (file,) = save_tiny_controlnet(tmp_path).glob("*.safetensors")
    with pytest.raises(ModelError, match=r"is a ControlNet: set edit\.controlnet\.path to it"):
        load_model(file, base=str(saved), device="cpu")


def test_other_formats_are_told_by_their_suffix_and_never_opened(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a pickle, which can run any code"):
        load_model(tmp_path / "model.ckpt", device="cpu")


def test_a_file_of_diffusers_own_names_is_no_whole_checkpoint(saved: Path, tmp_path: Path) -> None:
    """Files of a whole folder in one, which no program writes."""
    pipeline = StableDiffusionPipeline.from_pretrained(saved)
    both = prefixed("unet.", pipeline.unet.state_dict()) | prefixed("vae.", pipeline.vae.state_dict())
    save_file(contiguous(both), tmp_path / "file.safetensors")
    with pytest.raises(ModelError, match="is of an unknown kind"):
        load_model(tmp_path / "file.safetensors", base=str(saved), device="cpu")
