"""Folders in diffusers' layout as people have them: variants, shards, parts that were deleted, other schedulers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from tests.tiny import level
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import ModelError, TokenflowWarning
from tokenflow.models.blank import stored_weights
from tokenflow.models.loading import load_model

LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

NAMES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def load(folder: Path, **settings: Any) -> Any:
    return load_model(folder, device="cpu", dtype="float32", **settings)


def outputs(model: Any) -> list[torch.Tensor]:
    prompt = model.condition("a dog")
    return [prompt.tokens, model.predict(LATENTS, level(500), prompt), model.decode(LATENTS)]


def assert_equal(model: Any, other: Any, tolerance: float = 0.0) -> None:
    for own, expected in zip(outputs(model), outputs(other), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=tolerance)


def file_of(model: Path, part: str, variant: str = "") -> Path:
    return model / part / ".".join(filter(None, (NAMES[part], variant, "safetensors")))


def rename(part: str, variant: str) -> Callable[[Path], None]:
    """Leave the weights of a part in one variant only."""
    return lambda model: file_of(model, part).rename(file_of(model, part, variant)) and None


def scale(model: Path, part: str, variant: str, factor: float) -> None:
    """Add a variant whose weights are others."""
    weights = {name: weight * factor for name, weight in load_file(file_of(model, part)).items()}
    save_file(weights, file_of(model, part, variant), {"format": "pt"})


@pytest.mark.parametrize("part", NAMES)
@pytest.mark.parametrize("variant", ["fp16", "bf16", "ema", "non_ema", "fp32"])
def test_a_part_in_one_variant_alone_is_loaded_beside_full_ones(
    part: str, variant: str, model: Path, saved: Path
) -> None:
    rename(part, variant)(model)
    assert_equal(load(model), load(saved))


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2"])
def test_so_is_each_text_encoder_of_sdxl(part: str, saved_xl: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved_xl, tmp_path / "model"))
    weights = model / part / "model.safetensors"
    weights.rename(weights.with_name("model.fp16.safetensors"))
    assert_equal(load(model), load(saved_xl))


def test_every_part_may_be_in_another_variant(model: Path, saved: Path) -> None:
    for part, variant in zip(NAMES, ("non_ema", "fp16", "bf16"), strict=True):
        rename(part, variant)(model)
    assert_equal(load(model), load(saved))


def test_full_averaged_weights_are_preferred_and_the_setting_prefers_others(model: Path, saved: Path) -> None:
    for variant in ("fp16", "non_ema"):
        scale(model, "unet", variant, 1.5)
    assert_equal(load(model), load(saved))
    assert (outputs(load(model, variant="non_ema"))[1] - outputs(load(saved))[1]).abs().max() > 1e-3
    file_of(model, "unet").unlink()
    (model / "vae" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(file_of(model, "vae").read_bytes())
    assert (outputs(load(model))[1] - outputs(load(saved))[1]).abs().max() > 1e-3


def test_a_variant_is_part_of_the_fingerprint_and_a_missing_one_is_said(model: Path) -> None:
    scale(model, "unet", "fp16", 1.0)
    assert load(model).fingerprint != load(model, variant="fp16").fingerprint
    with pytest.raises(
        ModelError, match=r"no part of the model .* the variant 'fp8'; set model\.variant to one that is"
    ):
        load(model, variant="fp8")


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_several_files_are_loaded(variant: str | None, saved: Path, tmp_path: Path) -> None:
    StableDiffusionPipeline.from_pretrained(saved).save_pretrained(
        tmp_path / "shards", max_shard_size="200KB", variant=variant
    )
    assert len(list((tmp_path / "shards" / "unet").glob("*-of-*.safetensors"))) > 1
    assert_equal(load(tmp_path / "shards"), load(saved))


@pytest.mark.parametrize("deleted", [True, False])
def test_a_safety_checker_and_a_feature_extractor_are_not_needed(deleted: bool, model: Path, saved: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
    }
    (model / "model_index.json").write_text(json.dumps(index))
    if not deleted:
        for part in ("safety_checker", "feature_extractor"):
            (model / part).mkdir()
            (model / part / "config.json").write_text("{}")
        (model / "safety_checker" / "pytorch_model.bin").write_bytes(b"")
    assert_equal(load(model), load(saved))


def test_weights_that_the_network_does_not_use_are_said(model: Path, saved: Path) -> None:
    weights = load_file(file_of(model, "unet")) | {"extra.weight": torch.zeros(1)}
    save_file(weights, file_of(model, "unet"), {"format": "pt"})
    with pytest.warns(TokenflowWarning, match=r"has 1 weight that UNet2DConditionModel does not use, such as extra\.w"):
        loaded = load(model)
    assert_equal(loaded, load(saved))


def change_index(**changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        file = model / "model_index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def change_config(part: str, name: str, **changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        file = model / part / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_index(vae=[None, None]), r"has no vae; set model\.vae to one"),
        (change_index(text_encoder=[None, None]), r"has no text_encoder; set model\.path"),
        (
            change_index(unet=["custom", "MyUNet"]),
            r"the class of the unet of .* is MyUNet of custom; expected a class of diffusers",
        ),
        (
            change_index(_class_name="StableDiffusion3Pipeline"),
            r"is StableDiffusion3Pipeline, which is not supported",
        ),
        (change_config("unet", "config.json", in_channels=6), r"takes 6 channels; expected the 4 of its latents, or 9"),
        (
            change_config("unet", "config.json", _class_name="UNet3DConditionModel"),
            r"class of the unet of .* is UNet3DConditionModel; expected UNet2DConditionModel",
        ),
        (change_config("scheduler", "scheduler_config.json", beta_start="a"), r"betas of .* are unusable"),
        (change_index(_class_name="StableDiffusionInstructPix2PixPipeline"), "is StableDiffusionInstructPix2PixPipe"),
    ],
)
def test_what_a_folder_is_instead_is_said_in_one_line(change: Callable[[Path], None], said: str, model: Path) -> None:
    change(model)
    with pytest.raises(ModelError, match=said) as caught:
        load(model)
    assert "\n" not in str(caught.value)


def test_the_refiner_of_sdxl_is_told(saved_xl: Path, tmp_path: Path) -> None:
    refiner = Path(shutil.copytree(saved_xl, tmp_path / "refiner"))
    shutil.rmtree(refiner / "text_encoder")
    change_index(_class_name="StableDiffusionXLImg2ImgPipeline", text_encoder=[None, None], tokenizer=[None, None])(
        refiner
    )
    with pytest.raises(ModelError, match=r"is an SDXL refiner, which only finishes images of the base model"):
        load(refiner)


def test_a_pipeline_with_a_controlnet_is_loaded_without_it(saved: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(saved)
    controlnet = ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=(8, 16))
    both = StableDiffusionControlNetPipeline(
        **pipeline.components, controlnet=controlnet, requires_safety_checker=False
    )
    both.save_pretrained(tmp_path / "both")
    change_index(_ignore_files=["a", "b", "c"])(tmp_path / "both")
    assert_equal(load(tmp_path / "both"), load(saved))


def test_the_controlnet_of_such_a_pipeline_may_be_deleted(model: Path, saved: Path) -> None:
    change_index(_class_name="StableDiffusionControlNetPipeline", controlnet=["diffusers", "ControlNetModel"])(model)
    assert_equal(load(model), load(saved))


@pytest.mark.parametrize(
    ("part", "name", "expected"),
    [
        ("text_encoder", "pytorch_model.safetensors", "model.safetensors"),
        ("text_encoder", "model.SAFETENSORS", "model.safetensors"),
        ("unet", "model.safetensors", "diffusion_pytorch_model.safetensors"),
    ],
)
def test_weights_of_a_name_that_is_not_read_are_told_the_right_one(
    part: str, name: str, expected: str, model: Path
) -> None:
    file_of(model, part).rename(model / part / name)
    with pytest.raises(ModelError, match=rf"weights in {part}/ and has {name}, a name that is not read; rename it to"):
        load(model)
    (model / part / name).rename(model / part / expected)
    load(model)


def test_weights_behind_a_broken_link_are_none(model: Path) -> None:
    file_of(model, "vae").unlink()
    file_of(model, "vae").symlink_to(model / "nowhere")
    with pytest.raises(ModelError, match="needs safetensors weights in vae/ and has none"):
        load(model)
    assert stored_weights(ModelSettings(path=str(model))) == 0


def test_a_shard_that_is_missing_is_named(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    StableDiffusionPipeline.from_pretrained(saved).save_pretrained(folder, max_shard_size="200KB")
    first = min((folder / "unet").glob("*-of-*.safetensors"))
    first.unlink()
    with pytest.raises(ModelError, match=rf"lacks unet/{first.name}, one of its shards; download it again"):
        load(folder)


def test_without_a_tokenizers_configuration_prompts_are_as_long_as_the_encoder_takes(model: Path, saved: Path) -> None:
    (model / "tokenizer" / "tokenizer_config.json").unlink()
    assert_equal(load(model), load(saved))


@pytest.mark.parametrize(("configured", "native"), [([8, 8], 16), (None, 128), (8, 16)])
def test_the_native_size_is_that_of_the_configuration_or_of_the_original(
    configured: Any, native: int, model: Path
) -> None:
    change_config("unet", "config.json", sample_size=configured)(model)
    assert load(model).native_size == native


def test_a_folder_of_files_is_told_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"has no model_index\.json.* or to one of its \.safetensors files"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"which is not a \.safetensors file; set it to one"):
        load(tmp_path / "notes.txt")


@pytest.mark.parametrize("class_name", ["StableDiffusionXLInpaintPipeline", "StableDiffusionXLImg2ImgPipeline"])
def test_pipelines_for_other_tasks_with_the_same_parts_are_loaded(
    class_name: str, saved_xl: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(saved_xl, tmp_path / "other"))
    change_index(_class_name=class_name)(other)
    own, expected = load(other), load(saved_xl)
    prompts = own.condition("a dog"), expected.condition("a dog")
    assert torch.equal(own.predict(LATENTS, level(500), prompts[0]), expected.predict(LATENTS, level(500), prompts[1]))
