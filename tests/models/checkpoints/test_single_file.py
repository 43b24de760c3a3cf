"""Whole models in one file: read as diffusers reads them, or refused in one line."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.checkpoints.original import contiguous, original_weights, save_original
from tests.models.checkpoints.stub_hub import StubHub
from tests.tiny import inpainting, level, tiny_pipeline, tiny_xl_pipeline
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.checkpoints.single_file import BASES
from tokenflow.models.loading import load_model, stored_fingerprint

PARTS = [
    ("unet", "model.diffusion_model."),
    ("vae", "first_stage_model."),
    ("text_encoder", "cond_stage_model.transformer.text_model."),
]
LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def outputs(model: Any) -> list[Tensor]:
    """What every network of a model makes of the same input."""
    prompt = model.condition("a dog")
    return [prompt.tokens, *prompt.added.values(), model.predict(LATENTS, level(500), prompt), model.decode(LATENTS)]


def load(path: Path | str, base: Path, **settings: Any) -> Any:
    return load_model(path, base=str(base), device="cpu", dtype="float32", **settings)


def assert_equal(model: Any, other: Any) -> None:
    for own, expected in zip(outputs(model), outputs(other), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def file(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original(
        tmp_path_factory.mktemp("file") / "model.safetensors", StableDiffusionPipeline.from_pretrained(saved)
    )


@pytest.fixture(scope="module")
def file_xl(saved_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipeline = StableDiffusionXLPipeline.from_pretrained(saved_xl)
    return save_original(tmp_path_factory.mktemp("file") / "xl.safetensors", pipeline)


def changed(file: Path, folder: Path, change: Any) -> Path:
    """A copy of a file whose weights were changed."""
    weights = change(load_file(file))
    save_file(contiguous(weights), folder / "changed.safetensors")
    return folder / "changed.safetensors"


def test_a_file_is_the_model_it_was_made_from(file: Path, saved: Path) -> None:
    assert_equal(load(file, saved), load_model(saved, device="cpu", dtype="float32"))


def test_a_file_of_sdxl_is_the_model_it_was_made_from(file_xl: Path, saved_xl: Path) -> None:
    assert_equal(load(file_xl, saved_xl), load_model(saved_xl, device="cpu", dtype="float32"))


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl_pipeline])
@pytest.mark.parametrize("base", [tiny_pipeline, inpainting])
def test_an_inpainting_file_may_have_the_configuration_of_either_model(make: Any, base: Any, tmp_path: Path) -> None:
    pipeline = inpainting(make())
    pipeline.save_pretrained(tmp_path / "folder")
    (pipeline if base is inpainting else make()).save_pretrained(tmp_path / "base")
    file = save_original(tmp_path / "model.safetensors", pipeline)
    model = load(file, tmp_path / "base")
    assert model.inpaints
    assert_equal(model, load_model(tmp_path / "folder", device="cpu", dtype="float32"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_file_of_16_bits_is_read_as_diffusers_reads_it(
    dtype: torch.dtype, file: Path, saved: Path, tmp_path: Path
) -> None:
    half = changed(file, tmp_path, lambda weights: {name: weight.to(dtype) for name, weight in weights.items()})
    pipeline = StableDiffusionPipeline.from_single_file(str(half), config=str(saved), dtype=torch.float32)
    model = load(half, saved)
    with torch.no_grad():
        expected = pipeline.unet(LATENTS, 500, model.condition("a dog").tokens.repeat(2, 1, 1)).sample
    torch.testing.assert_close(
        model.predict(LATENTS, level(500), model.condition("a dog"))[0], expected, rtol=0, atol=1e-5
    )


def test_a_file_of_8_bits_is_said_to_be_one(file: Path, saved: Path, tmp_path: Path) -> None:
    eight = changed(
        file, tmp_path, lambda weights: {n: weight.to(torch.float8_e4m3fn) for n, weight in weights.items()}
    )
    with pytest.warns(TokenflowWarning, match="has weights of 8 bits, which cost detail"):
        load(eight, saved)


def test_averaged_weights_beside_are_said_to_be_ignored(file: Path, saved: Path, tmp_path: Path) -> None:
    both = changed(file, tmp_path, lambda weights: weights | {"model_ema.diffusion_modelout2bias": torch.ones(4)})
    with pytest.warns(TokenflowWarning, match=r"also has EMA weights; the regular ones are used"):
        model = load(both, saved)
    assert_equal(model, load(file, saved))


def test_older_merges_lack_a_part_of_the_text_encoders_names(file: Path, saved: Path, tmp_path: Path) -> None:
    def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = {name.replace("transformer.text_model.", "transformer."): weight for name, weight in weights.items()}
        assert renamed.keys() != weights.keys()
        return renamed | {"cond_stage_model.transformer.embeddings.position_ids": torch.arange(32)[None]}

    assert_equal(load(changed(file, tmp_path, rename), saved), load(file, saved))


@pytest.mark.parametrize("name", ["Model V1.SafeTensors", "MODEL.SAFETENSORS"])
def test_the_suffix_may_be_in_upper_case(name: str, file: Path, saved: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / name)
    assert_equal(load(tmp_path / name, saved), load(file, saved))


def without(*prefixes: str) -> Any:
    return lambda weights: {name: weight for name, weight in weights.items() if not name.startswith(prefixes)}


def test_a_file_without_a_vae_takes_another(file: Path, saved: Path, tmp_path: Path) -> None:
    lacking = changed(file, tmp_path, without("first_stage_model."))
    with pytest.raises(ModelError, match=r"is without a VAE: set model\.vae to one"):
        load(lacking, saved)
    assert_equal(load(lacking, saved, vae=str(saved / "vae")), load(file, saved))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.diffusion_model.out.2.weight", r"lacks weights that .* has; download it again"),
        ("first_stage_model.quant_conv.bias", r"lacks weights that .* has; download it again"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", r"text_encoder of .* lacks 1 of its weights"),
    ],
)
def test_a_file_that_lacks_a_weight_is_refused(name: str, said: str, file: Path, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        load(changed(file, tmp_path, without(name)), saved)


@pytest.mark.parametrize(("part", "prefix"), PARTS)
def test_a_file_with_more_weights_than_its_base_is_refused(
    part: str, prefix: str, file: Path, saved: Path, tmp_path: Path
) -> None:
    more = changed(file, tmp_path, lambda weights: weights | {f"{prefix}extra.scale_weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=rf"the {part} of .* has 1 more weight than .*; set model\.base"):
        load(more, saved)


def test_a_second_text_encoder_with_more_weights_than_its_base_is_refused(
    file_xl: Path, saved_xl: Path, tmp_path: Path
) -> None:
    scale = "conditioner.embedders.1.model.transformer.resblocks.0.attn.scale_weight"
    more = changed(file_xl, tmp_path, lambda weights: weights | {scale: torch.zeros(1)})
    with pytest.raises(ModelError, match=r"the text_encoder_2 of .* has 1 more weight than"):
        load(more, saved_xl)


def test_a_file_on_the_hub_is_downloaded_alone(file: Path, saved: Path, tmp_path: Path, stub_hub: StubHub) -> None:
    (tmp_path / "files").mkdir()
    shutil.copy(file, tmp_path / "files" / "model.safetensors")
    stub_hub.add("someone/files", tmp_path / "files")
    model = load("someone/files/model.safetensors", saved)
    assert stub_hub.served == ["model.safetensors"]
    assert_equal(model, load(file, saved))
    name = "someone/files/model.safetensors"
    stored = stored_fingerprint(name, base=str(saved), device="cpu", dtype="float32")
    assert stored == model.fingerprint
    with pytest.raises(
        ModelNotFoundError, match=r"the file 'someone/files/no\.safetensors' was not found in .* no such file"
    ):
        load("someone/files/no.safetensors", saved)


def test_settings_that_have_no_effect_are_said(file: Path, saved: Path) -> None:
    for path, settings in ((file, {"base": str(saved), "variant": "fp16"}), (saved, {"base": "x", "revision": "y"})):
        with pytest.warns(TokenflowWarning) as caught:
            load_model(path, device="cpu", **settings)
        said = " ".join(str(each.message) for each in caught)
        unused = [name for name, value in settings.items() if value != str(saved)]
        assert all(f"model.{name} has no effect" in said for name in unused)


def test_a_base_of_another_version_is_refused_in_one_line(
    file: Path, file_xl: Path, saved: Path, saved_xl: Path, tmp_path: Path
) -> None:
    tiny_pipeline(levels=4).save_pretrained(tmp_path / "wider")
    for path, base, said in (
        (
            file,
            tmp_path / "wider",
            r"do not fit the configuration of .*wider'; set model\.base to the Stable Diffusion 1\.x",
        ),
        (
            file_xl,
            saved,
            r"is Stable Diffusion XL, but the class of model\.base .* is StableDiffusionPipeline; set model\.base",
        ),
        (
            file,
            saved_xl,
            r"is Stable Diffusion 1\.x, but the class of model\.base .* is StableDiffusionXLPipeline; set model\.base",
        ),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            load(path, base)
        assert "\n" not in str(caught.value)
        assert "low_cpu_mem_usage" not in str(caught.value)


def test_the_configuration_comes_from_the_hub_where_no_base_is_named(
    file: Path, saved: Path, stub_hub: StubHub
) -> None:
    stub_hub.add(BASES["1.x"], saved)
    assert_equal(load_model(file, device="cpu", dtype="float32"), load(file, saved))
    assert {*stub_hub.served} == {
        *("model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "unet/config.json"),
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "vae/config.json"),
    }


@pytest.mark.parametrize("base", ["none/at/all", "./none", "a..b"])
def test_a_base_that_is_missing_is_said(base: str, file: Path, stub_hub: StubHub) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"the folder .* was not found.*; set model\.base to a folder or Hub id"
    ):
        load_model(file, base=base, device="cpu")


def test_without_the_hub_a_base_is_asked_for(file: Path, stub_hub: StubHub) -> None:
    said = r"needs the configuration of 'stable-diffusion-v1-5/.*', and the Hub has no .*; set model\.base to a folder"
    with pytest.raises(ModelNotFoundError, match=said):
        load_model(file, device="cpu")


def test_a_withdrawn_base_is_taken_from_where_it_is_kept(file: Path, saved: Path, stub_hub: StubHub) -> None:
    stub_hub.add(BASES["1.x"], saved)
    with pytest.warns(TokenflowWarning, match=r"removed from the Hub; .* Set model\.base to that name"):
        model = load_model(file, base="runwayml/stable-diffusion-v1-5", device="cpu", dtype="float32")
    assert_equal(model, load(file, saved))


def test_the_files_of_the_tests_have_the_names_that_diffusers_converts(saved: Path, file: Path) -> None:
    pipeline = StableDiffusionPipeline.from_single_file(str(file), config=str(saved))
    own = original_weights(pipeline)
    assert own.keys() == load_file(file).keys()
