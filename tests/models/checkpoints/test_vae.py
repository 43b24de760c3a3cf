"""A VAE in place of the model's own: from a folder, another model's folder, or a file in either naming."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderTiny, ConsistencyDecoderVAE
from safetensors.torch import save_file

from tests.models.checkpoints.original import contiguous, prefixed, vae_weights
from tests.tiny import tiny_unet, tiny_vae
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.loading import load_model, stored_fingerprint

LATENTS = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def other() -> AutoencoderKL:
    """Another VAE of the same shape."""
    vae = tiny_vae()
    for parameter in vae.parameters():
        parameter.data *= 1.1
    return vae.eval()


def load(path: Path, **settings: Any) -> Any:
    return load_model(path, device="cpu", dtype="float32", **settings)


def decoded(vae: Any) -> torch.Tensor:
    with torch.no_grad():
        return (vae.decode(LATENTS / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def assert_decodes(model: Any, vae: Any) -> None:
    torch.testing.assert_close(model.decode(LATENTS), decoded(vae), rtol=0, atol=1e-6)


def test_a_folder_with_a_vae_and_a_model_with_one_are_taken(other: AutoencoderKL, saved: Path, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "vae")
    model = shutil.copytree(saved, tmp_path / "model")
    shutil.rmtree(model / "vae")
    shutil.copytree(tmp_path / "vae", model / "vae")
    for path in (tmp_path / "vae", model):
        assert_decodes(load(saved, vae=str(path)), other)


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", None])
def test_a_file_is_read_in_any_naming(prefix: str | None, other: AutoencoderKL, saved: Path, tmp_path: Path) -> None:
    weights = other.state_dict() if prefix is None else prefixed(prefix, vae_weights(other))
    save_file(contiguous(weights), tmp_path / "vae.safetensors")
    assert_decodes(load(saved, vae=str(tmp_path / "vae.safetensors")), other)


def test_other_kinds_of_vae_are_taken(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny = AutoencoderTiny(**widths, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).eval()
    asymmetric = AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        down_block_out_channels=(8, 8),
        up_block_types=("UpDecoderBlock2D",) * 2,
        up_block_out_channels=(8, 16),
        norm_num_groups=4,
    ).eval()
    for vae in (tiny, asymmetric):
        vae.save_pretrained(tmp_path / type(vae).__name__)
        assert_decodes(load(saved, vae=str(tmp_path / type(vae).__name__)), vae)


def test_a_model_whose_vae_was_deleted_takes_another(saved: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved, tmp_path / "model"))
    shutil.rmtree(model / "vae")
    with pytest.raises(ModelError, match=r"needs safetensors weights in vae/ and has none"):
        load(model)
    assert torch.equal(load(model, vae=str(saved)).decode(LATENTS), load(saved).decode(LATENTS))


def test_a_vae_is_part_of_the_fingerprint(other: AutoencoderKL, saved: Path, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "vae")
    plain, changed = load(saved), load(saved, vae=str(tmp_path / "vae"))
    assert plain.fingerprint != changed.fingerprint
    stored = stored_fingerprint(str(saved), vae=str(tmp_path / "vae"), device="cpu", dtype="float32")
    assert stored == changed.fingerprint


def test_what_is_no_vae_for_the_model_is_refused_in_one_line(saved: Path, tmp_path: Path) -> None:
    tiny_unet().save_pretrained(tmp_path / "unet")
    deeper = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
    )
    save_file(contiguous(vae_weights(deeper)), tmp_path / "deeper.safetensors")
    AutoencoderKL.from_config(tiny_vae().config, latent_channels=16).save_pretrained(tmp_path / "sixteen")
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "config.json").write_text(f'{{"_class_name": "{ConsistencyDecoderVAE.__name__}"}}')
    save_file({"weight": torch.zeros(1)}, tmp_path / "decoder" / "diffusion_pytorch_model.safetensors")
    for name, error, said in (
        ("unet", ModelError, r"is UNet2DConditionModel; expected one of AutoencoderKL, .*: set model\.vae"),
        ("decoder", ModelError, r"is ConsistencyDecoderVAE; expected one of"),
        ("unet/diffusion_pytorch_model.safetensors", ModelError, r"holds something other than a VAE; set model\.vae"),
        ("deeper.safetensors", ModelError, r"does not fit the model's own configuration of a VAE; set model\.vae"),
        ("sixteen", ModelError, r"have 16 channels, the model's have 4; set model\.vae"),
        ("none.safetensors", ModelNotFoundError, r"the model file .* was not found.*; set model\.vae"),
        ("none/at/all", ModelNotFoundError, r"there is no VAE at .*: there is no such folder; expected a folder with"),
    ):
        with pytest.raises(error, match=said) as caught:
            load(saved, vae=str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_file_of_taesd_is_taken(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    vae = AutoencoderTiny().eval()
    save_file(contiguous(vae.state_dict()), tmp_path / "taesd.safetensors")
    torch.testing.assert_close(
        load(saved, vae=str(tmp_path / "taesd.safetensors")).decode(LATENTS), decoded(vae), rtol=0, atol=1e-6
    )
    other = AutoencoderTiny(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8))
    save_file(contiguous(other.state_dict()), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"is an AutoencoderTiny of another size than TAESD; set model\.vae to its"):
        load(saved, vae=str(tmp_path / "other.safetensors"))


def test_tiles_are_refused_for_a_vae_that_has_none(saved: Path, tmp_path: Path) -> None:
    AsymmetricAutoencoderKL(norm_num_groups=4).save_pretrained(tmp_path / "vae")
    with pytest.raises(ModelError, match=r"AsymmetricAutoencoderKL, which has no tiles; set model\.tiling to false"):
        load(saved, vae=str(tmp_path / "vae"), tiling=True)
