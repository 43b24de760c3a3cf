"""Sana in the shapes in which people have it: folders, Hub ids, and a transformer in a file of its own."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.checkpoints.stub_hub import StubHub
from tests.tiny_sana import tiny_sana_pipeline, tiny_sprint_pipeline
from tokenflow.errors import ModelError
from tokenflow.models.families import FAMILIES, SANA, STABLE_DIFFUSION
from tokenflow.models.loading import load_model, stored_fingerprint
from tokenflow.models.model import Model
from tokenflow.models.placement import Precision
from tokenflow.models.sana import Sana

LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def saved_sana(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "sana"
    tiny_sana_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved_sprint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "sprint"
    tiny_sprint_pipeline().save_pretrained(folder)
    return folder


def loaded(path: object, **options: object) -> Model:
    return load_model(str(path), **{"device": "cpu", "dtype": "float32", **options})  # type: ignore[arg-type]


def flow(model: Model) -> Tensor:
    return model.predict(LATENTS, model.schedule.steps(2)[1].at, model.condition("a dog", negative=True))


def test_a_folder_is_loaded_as_it_was_saved(saved_sana: Path, saved_sprint: Path) -> None:
    for folder, pipeline in ((saved_sana, tiny_sana_pipeline()), (saved_sprint, tiny_sprint_pipeline())):
        model = loaded(folder)
        assert isinstance(model, Sana)
        torch.testing.assert_close(flow(model), flow(Sana(pipeline)), rtol=0, atol=1e-6)
        assert stored_fingerprint(str(folder), device="cpu", dtype="float32") == model.fingerprint


def test_a_hub_id_is_downloaded_without_what_is_not_needed(saved_sana: Path, stub_hub: StubHub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_sana, tmp_path / "published"))
    (folder / "README.md").write_text("a card")
    stub_hub.add("someone/sana", folder)
    assert torch.equal(flow(loaded("someone/sana")), flow(loaded(saved_sana)))
    assert stub_hub.served[0] == "model_index.json"
    assert "README.md" not in stub_hub.served
    assert {name.split("/")[0] for name in stub_hub.served if name.endswith(".safetensors")} == set(SANA.networks)


def test_half_precision_leaves_out_the_text_encoder_and_the_autoencoder(saved_sana: Path) -> None:
    model = loaded(saved_sana, dtype="float16")
    assert isinstance(model, Sana)
    parts = model._pipeline
    assert (parts.transformer.dtype, parts.vae.dtype, parts.text_encoder.dtype) == (
        torch.float16,
        torch.bfloat16,
        torch.bfloat16,
    )


def test_automatic_half_precision_is_bfloat16_for_sana() -> None:
    half = Precision(torch.float16, is_automatic=True)
    assert set(SANA.dtypes(half).values()) == {torch.bfloat16}
    assert set(STABLE_DIFFUSION.dtypes(half).values()) == {torch.float16}
    full = Precision(torch.float32, is_automatic=True)
    assert set(SANA.dtypes(full).values()) == {torch.float32}


def original(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Sana 1.0's transformer under the names of the original code, queries, keys and values together."""
    outside = {
        "patch_embed.proj": "x_embedder.proj",
        "time_embed.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_embed.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_embed.linear": "t_block.1",
        "caption_projection.linear_1": "y_embedder.y_proj.fc1",
        "caption_projection.linear_2": "y_embedder.y_proj.fc2",
        "caption_norm": "attention_y_norm",
        "proj_out": "final_layer.linear",
    }
    inside = {
        "attn1.to_out.0": "attn.proj",
        "attn2.to_q": "cross_attn.q_linear",
        "attn2.to_out.0": "cross_attn.proj",
        "ff.conv_inverted": "mlp.inverted_conv.conv",
        "ff.conv_depth": "mlp.depth_conv.conv",
        "ff.conv_point": "mlp.point_conv.conv",
    }
    named = {"pos_embed": torch.zeros(1), "y_embedder.y_embedding": torch.zeros(1)}
    named["final_layer.scale_shift_table"] = weights["scale_shift_table"]
    for name, weight in weights.items():
        stem, _, kind = name.rpartition(".")
        if stem in outside:
            named[f"{outside[stem]}.{kind}"] = weight
        elif name.startswith("transformer_blocks."):
            _, index, rest = stem.split(".", 2) if kind != "scale_shift_table" else (*stem.split("."), "")
            block = f"blocks.{index}"
            if kind == "scale_shift_table":
                named[f"{block}.{kind}"] = weight
            elif rest in inside:
                named[f"{block}.{inside[rest]}.{kind}"] = weight
    for index in {name.split(".")[1] for name in weights if name.startswith("transformer_blocks.")}:
        block, layer = f"blocks.{index}", f"transformer_blocks.{index}"
        named[f"{block}.attn.qkv.weight"] = torch.cat([weights[f"{layer}.attn1.to_{each}.weight"] for each in "qkv"])
        for kind in ("weight", "bias"):
            both = [weights[f"{layer}.attn2.to_{each}.{kind}"] for each in "kv"]
            named[f"{block}.cross_attn.kv_linear.{kind}"] = torch.cat(both)
    return named


@pytest.mark.parametrize("names", ["diffusers", "original"])
def test_a_transformer_in_a_file_is_loaded_with_the_rest_of_its_base(
    names: str, saved_sana: Path, tmp_path: Path
) -> None:
    (file,) = (saved_sana / "transformer").glob("*.safetensors")
    weights = {name: weight + 0.01 for name, weight in load_file(file).items()}  # not those of the base
    path = tmp_path / "sana.safetensors"
    save_file(weights if names == "diffusers" else original(weights), path)
    model = loaded(path, base=str(saved_sana))
    assert isinstance(model, Sana)
    for name, weight in model._transformer.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    assert torch.equal(model.condition("a dog").tokens, loaded(saved_sana).condition("a dog").tokens)
    assert not torch.equal(flow(model), flow(loaded(saved_sana)))
    assert loaded(path, base=str(saved_sana), dtype="bfloat16")._transformer.dtype == torch.bfloat16  # type: ignore[attr-defined]


def test_from_the_hub_a_base_gives_everything_but_the_transformer(
    saved_sana: Path, stub_hub: StubHub, tmp_path: Path
) -> None:
    (file,) = (saved_sana / "transformer").glob("*.safetensors")
    path = Path(shutil.copy(file, tmp_path / "sana.safetensors"))
    stub_hub.add("someone/sana", saved_sana)
    assert torch.equal(flow(loaded(path, base="someone/sana")), flow(loaded(saved_sana)))
    weights = {name.split("/")[0] for name in stub_hub.served if name.endswith(".safetensors")}
    assert weights == {"vae", "text_encoder"}


def test_a_transformer_in_a_file_needs_a_base_that_it_fits(
    saved_sana: Path, saved_sprint: Path, saved: Path, tmp_path: Path
) -> None:
    (file,) = (saved_sana / "transformer").glob("*.safetensors")
    path = Path(shutil.copy(file, tmp_path / "sana.safetensors"))
    for base, said in (
        (None, r"is a transformer of Sana, .*set model\.base to the folder or Hub id of the Sana"),
        (
            saved,
            r"is a transformer of Sana, but the class of model\.base .* is StableDiffusionPipeline; set model\.base",
        ),
        (saved_sprint, r"the model file .* (lacks|do not fit)"),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            loaded(path, base=None if base is None else str(base))
        assert "\n" not in str(caught.value)
    (sprint,) = (saved_sprint / "transformer").glob("*.safetensors")
    other = Path(shutil.copy(sprint, tmp_path / "sprint.safetensors"))
    with pytest.raises(ModelError, match=r"do not fit|lacks"):
        loaded(other, base=str(saved_sana))


OTHERS = [
    "SanaVideoPipeline",
    "SanaImageToVideoPipeline",
    "StableDiffusion3Pipeline",
    "PixArtAlphaPipeline",
    "PixArtSigmaPipeline",
    "WanPipeline",
    "WanImageToVideoPipeline",
]


@pytest.mark.parametrize("name", OTHERS)
def test_relatives_are_refused_by_name_before_anything_else_is_downloaded(
    name: str, stub_hub: StubHub, tmp_path: Path
) -> None:
    content = {"_class_name": name, "transformer": ["diffusers", "SomeTransformer"], "vae": ["diffusers", "SomeVAE"]}
    folder = tmp_path / "other"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(content))
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"gigabytes")
    stub_hub.add("someone/other", folder)
    for path in (str(folder), "someone/other"):
        with pytest.raises(ModelError, match=f"is {name}, which is not supported.*; expected .*Sana, SANA-Sprint"):
            load_model(path, device="cpu")
    assert stub_hub.served == ["model_index.json"]
    assert name not in FAMILIES


def test_whether_a_model_samples_in_few_steps_may_be_said(saved: Path, saved_sana: Path, saved_sprint: Path) -> None:
    assert loaded(saved).schedule.few_step is None
    named = loaded(saved, few_step=True)
    assert named.schedule.few_step is not None
    assert named.fingerprint != loaded(saved).fingerprint
    assert stored_fingerprint(str(saved), device="cpu", dtype="float32", few_step=True) == named.fingerprint
    assert loaded(saved_sprint, few_step=True).schedule.few_step is not None
    with pytest.raises(ModelError, match=r"model\.few_step is true, but this model is Sana, which samples in many"):
        loaded(saved_sana, few_step=True)
    with pytest.raises(ModelError, match=r"model\.few_step is false, but this model is SANA-Sprint"):
        loaded(saved_sprint, few_step=False)


def test_what_sana_predicts_is_not_overridden(saved_sana: Path, stub_hub: StubHub) -> None:
    stub_hub.add("someone/sana", saved_sana)
    for path in (str(saved_sana), "someone/sana"):
        with pytest.raises(ModelError, match=r"model\.prediction_type is 'epsilon', but .* flow only; set it to null"):
            loaded(path, prediction_type="epsilon")
    assert not [name for name in stub_hub.served if name.endswith(".safetensors")]


def test_another_autoencoder_of_the_same_kind_may_be_chosen(saved_sana: Path, saved: Path, tmp_path: Path) -> None:
    other = tiny_sana_pipeline().vae
    other.register_to_config(scaling_factor=2.0)
    other.save_pretrained(tmp_path / "vae")
    frames = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    own, chosen = loaded(saved_sana), loaded(saved_sana, vae=str(tmp_path / "vae"))
    torch.testing.assert_close(chosen.encode(frames), 4 * own.encode(frames))
