"""FLUX in the shapes in which people have it: folders, Hub ids, short names, and a transformer in a file of its own."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.checkpoints.stub_hub import StubHub
from tests.tiny_flux import tiny_flux2_pipeline, tiny_flux_pipeline
from tests.tiny_sana import tiny_sana_pipeline
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.families import FLUX, FLUX_2
from tokenflow.models.flux import Flux
from tokenflow.models.flux2 import Flux2
from tokenflow.models.joint_transformer import JointTransformer
from tokenflow.models.loading import load_model, stored_fingerprint
from tokenflow.models.model import Model
from tokenflow.models.placement import Precision
from tokenflow.models.sizes import Sizes, is_few_step, sizes_of

LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

PIPELINES = {
    "dev": lambda: tiny_flux_pipeline(),
    "schnell": lambda: tiny_flux_pipeline(schnell=True),
    "kontext": lambda: tiny_flux_pipeline(kontext=True),
    "klein-base": lambda: tiny_flux2_pipeline(),
    "klein": lambda: tiny_flux2_pipeline(distilled=True),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    for name, make in PIPELINES.items():
        make().save_pretrained(folder / name)
    tiny_sana_pipeline().save_pretrained(folder / "sana")
    return folder


def loaded(path: object, **options: object) -> Model:
    return load_model(str(path), **{"device": "cpu", "dtype": "float32", **options})  # type: ignore[arg-type]


def flow(model: Model) -> Tensor:
    return model.predict(LATENTS, model.schedule.steps(3, tokens=16)[1].at, model.condition("a dog"))


@pytest.mark.parametrize("name", PIPELINES)
def test_a_folder_is_loaded_as_it_was_saved(name: str, saved: Path) -> None:
    model, made = loaded(saved / name), PIPELINES[name]()
    expected = Flux2(made) if name.startswith("klein") else Flux(made)
    assert isinstance(model, JointTransformer)
    torch.testing.assert_close(flow(model), flow(expected), rtol=0, atol=1e-6)
    assert (model.guidance, model.instructs) == (expected.guidance, name not in ("dev", "schnell"))
    assert stored_fingerprint(str(saved / name), device="cpu", dtype="float32") == model.fingerprint
    assert (
        is_few_step(str(saved / name), None) == (model.schedule.few_step is not None) == (name in ("schnell", "klein"))
    )
    assert not is_few_step(str(saved / name), False)
    assert sizes_of(str(saved / name)) == Sizes(native=32, multiple=4, latent_scale=2, latent_channels=4)


def test_a_short_name_is_a_hub_id_and_downloads_what_is_needed(saved: Path, stub_hub: StubHub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "klein", tmp_path / "published"))
    (folder / "flux-2-klein-4b.safetensors").write_bytes(b"the same in one file")
    stub_hub.add("black-forest-labs/FLUX.2-klein-4B", folder)
    assert torch.equal(flow(loaded("flux.2-klein-4b")), flow(loaded(saved / "klein")))
    assert stub_hub.served[0] == "model_index.json"
    assert "flux-2-klein-4b.safetensors" not in stub_hub.served


def test_half_precision_leaves_out_text_encoders() -> None:
    half = Precision(torch.float16, is_automatic=True)
    assert set(FLUX.dtypes(half).values()) == set(FLUX_2.dtypes(half).values()) == {torch.bfloat16}
    asked = FLUX.dtypes(Precision(torch.float16, is_automatic=False))
    assert {part for part, dtype in asked.items() if dtype == torch.bfloat16} == {"text_encoder", "text_encoder_2"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("flux-pro", r"only through an API.*edit.mode=keyframes.*or set model.path to flux.1-dev"),
        ("black-forest-labs/FLUX.1.1-pro-ultra", "only through an API"),
        ("black-forest-labs/FLUX.2-pro", "only through an API"),
        ("black-forest-labs/flux-2-flex", "only through an API"),
        ("black-forest-labs/FLUX.1-Fill-dev", "fills in what a mask leaves out"),
        ("black-forest-labs/FLUX.1-Redux-dev", "variations of an image"),
        ("black-forest-labs/FLUX.1-Canny-dev", "takes edges or a depth map"),
        ("black-forest-labs/FLUX.2-dev", "its text encoder is not"),
        ("black-forest-labs/flux-3-image-klein", "its generation is newer"),
        ("stabilityai/stable-diffusion-3.5-large", "its transformer is of another kind"),
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", "it makes videos"),
    ],
)
def test_models_that_cannot_be_had_are_refused_by_name_before_anything_is_downloaded(
    name: str, said: str, stub_hub: StubHub
) -> None:
    with pytest.raises(ModelError, match=said):
        loaded(name)
    assert not stub_hub.served


@pytest.mark.parametrize(
    "name",
    [
        "someone/flux-max-detail",
        "someone/flux-profile",
        "someone/fulfilled",
        "someone/swan-lake",
        "someone/wanderer",
        "someone/FLUX.1-dev-tuned",
    ],
)
def test_other_names_are_not_taken_for_those(name: str, stub_hub: StubHub) -> None:
    with pytest.raises(ModelNotFoundError):
        loaded(name)


@pytest.mark.parametrize(
    ("class_name", "said"),
    [
        ("Flux2Pipeline", "its text encoder is not"),
        ("FluxFillPipeline", "mask"),
        ("FluxControlPipeline", "edges or a depth map"),
        ("StableDiffusion3Pipeline", "of another kind"),
        ("WanPipeline", "it makes videos"),
        ("PixArtAlphaPipeline", "; "),
    ],
)
def test_folders_of_other_pipelines_are_refused_by_what_they_are(class_name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    with pytest.raises(
        ModelError, match=rf"is {class_name}, which is not supported.*{said}.*expected .*FLUX.2 \[klein\]"
    ):
        loaded(tmp_path)


def test_a_name_that_was_mistyped_is_answered_with_one_that_is_there(stub_hub: StubHub) -> None:
    for name in ("./flux2-klein-4b", "flux2-klein-4b"):
        with pytest.raises(ModelNotFoundError, match=r"; perhaps flux.2-klein-4b .*was meant; set model.path"):
            loaded(name)


def original_klein(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of FLUX.2's transformer under the names of the original code."""
    outside = {
        "x_embedder": "img_in",
        "context_embedder": "txt_in",
        "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
        "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
        "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin",
        "single_stream_modulation.linear": "single_stream_modulation.lin",
        "proj_out": "final_layer.linear",
    }
    inside = {
        "attn.norm_q": "img_attn.norm.query_norm",
        "attn.norm_k": "img_attn.norm.key_norm",
        "attn.to_out.0": "img_attn.proj",
        "ff.linear_in": "img_mlp.0",
        "ff.linear_out": "img_mlp.2",
        "attn.norm_added_q": "txt_attn.norm.query_norm",
        "attn.norm_added_k": "txt_attn.norm.key_norm",
        "attn.to_add_out": "txt_attn.proj",
        "ff_context.linear_in": "txt_mlp.0",
        "ff_context.linear_out": "txt_mlp.2",
    }
    single = {
        "attn.to_qkv_mlp_proj": "linear1",
        "attn.to_out": "linear2",
        "attn.norm_q": "norm.query_norm",
        "attn.norm_k": "norm.key_norm",
    }
    named: dict[str, Tensor] = {}
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        if stem in outside:
            named[f"{outside[stem]}.weight"] = weight
        elif stem == "norm_out.linear":  # scale and shift in the other order
            named["final_layer.adaLN_modulation.1.weight"] = torch.cat([*weight.chunk(2)][::-1])
        else:
            blocks, index, rest = stem.split(".", 2)
            names, kind = (single, "single_blocks") if blocks.startswith("single") else (inside, "double_blocks")
            if rest in names:
                scale = "scale" if "norm" in rest else "weight"
                named[f"{kind}.{index}.{names[rest]}.{scale}"] = weight
    for index in {name.split(".")[1] for name in weights if name.startswith("transformer_blocks.")}:
        layer = f"transformer_blocks.{index}.attn"
        for stream, parts in (("img", ("to_q", "to_k", "to_v")), ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"))):
            qkv = torch.cat([weights[f"{layer}.{part}.weight"] for part in parts])
            named[f"double_blocks.{index}.{stream}_attn.qkv.weight"] = qkv
    return named


@pytest.mark.parametrize("names", ["diffusers", "original", "comfy"])
def test_kleins_transformer_in_a_file_takes_everything_else_from_its_base(
    names: str, saved: Path, tmp_path: Path
) -> None:
    weights = load_file(next((saved / "klein" / "transformer").glob("*.safetensors")))
    weights = {name: weight * 1.5 if name == "proj_out.weight" else weight for name, weight in weights.items()}
    if names != "diffusers":
        weights = original_klein(weights)
    prefix = "model.diffusion_model." if names == "comfy" else ""
    file = tmp_path / "klein.safetensors"
    save_file({prefix + name: weight.contiguous() for name, weight in weights.items()}, file)
    model = loaded(file, base=str(saved / "klein"))
    assert isinstance(model, Flux2)
    torch.testing.assert_close(flow(model), 1.5 * flow(loaded(saved / "klein")), rtol=0, atol=1e-5)


def test_a_transformer_in_a_file_needs_the_base_it_descends_from(saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "dev.safetensors"
    shutil.copy(next((saved / "dev" / "transformer").glob("*.safetensors")), file)
    torch.testing.assert_close(flow(loaded(file, base=str(saved / "dev"))), flow(loaded(saved / "dev")))
    with pytest.raises(ModelError, match=r"is a transformer of FLUX.1, .*set model.base to the folder or Hub id"):
        loaded(file)
    for other in ("klein", "sana"):
        with pytest.raises(
            ModelError, match=r"is a transformer of FLUX.1, but the class of model.base .*to the FLUX.1"
        ):
            loaded(file, base=str(saved / other))
    with pytest.raises(ModelError, match=r"do not fit the transformer of .*set model.base to the FLUX.1"):
        loaded(file, base=str(saved / "schnell"))


def test_what_a_flow_model_predicts_cannot_be_overridden(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"model.prediction_type is 'epsilon', but .*predicts the flow only"):
        loaded(saved / "dev", prediction_type="epsilon")
