"""Models on the Hub: what is downloaded of them, and what is said where they are not available."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from huggingface_hub import constants, hf_hub_download

from tests.models.checkpoints.stub_hub import StubHub
from tests.tiny import level, save_tiny_controlnet, tiny_model, tiny_vae
from tokenflow.config import LoRA, TextualInversion
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.adapters.files import find_file
from tokenflow.models.checkpoints import hub
from tokenflow.models.checkpoints.hub import WITHDRAWN
from tokenflow.models.loading import control_fingerprint, load_model, stored_fingerprint

NAME = "someone/model"
OFFLINE = "HF_HUB_OFFLINE"


def noise(model: object) -> torch.Tensor:
    return model.predict(torch.ones(1, 4, 8, 8), level(500), model.condition("a dog"))  # type: ignore[attr-defined]


@pytest.fixture
def published(stub_hub: StubHub, model: Path) -> StubHub:
    """The model as people publish it: in several variants, with a checker, a card, and a single file beside."""
    stub_hub.add(NAME, model)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    for variant in ("fp16", "non_ema"):
        shutil.copy(weights, weights.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    for name in ("README.md", "v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.bin"):
        (model / name).write_bytes(b"not needed")
    checker = model / "safety_checker"
    checker.mkdir()
    (checker / "config.json").write_text("{}")
    (checker / "model.safetensors").write_bytes(b"not needed")
    index = json.loads((model / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (model / "model_index.json").write_text(json.dumps(index))
    return stub_hub


NEEDED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}


def test_only_the_files_that_are_needed_are_downloaded(published: StubHub, saved: Path) -> None:
    loaded = load_model(NAME, device="cpu", dtype="float32")
    assert published.served[0] == "model_index.json"
    assert {*published.served} == NEEDED
    assert len(published.served) == len(NEEDED)
    assert torch.equal(noise(loaded), noise(load_model(saved, device="cpu", dtype="float32")))


def test_the_vocabulary_that_a_model_brings_is_downloaded(published: StubHub, model: Path) -> None:
    (model / "vocabulary.json").write_text(json.dumps({"words": ["a", "dog"], "object": ["dog"]}))
    loaded = load_model(NAME, device="cpu")
    with pytest.warns(TokenflowWarning, match="has never seen 'dinosaur'"):
        loaded.condition("a dinosaur")


def test_for_half_precision_its_variant_is_downloaded_where_there_is_one(published: StubHub) -> None:
    load_model(NAME, device="cpu", dtype="float16")
    half, full = (f"unet/diffusion_pytorch_model{part}.safetensors" for part in (".fp16", ""))
    assert {*published.served} == NEEDED - {full} | {half}


def test_the_variant_that_is_asked_for_is_downloaded(published: StubHub) -> None:
    load_model(NAME, device="cpu", dtype="float32", variant="non_ema")
    other, full = (f"unet/diffusion_pytorch_model{part}.safetensors" for part in (".non_ema", ""))
    assert {*published.served} == NEEDED - {full} | {other}


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_several_files_are_downloaded_together(
    variant: str | None, stub_hub: StubHub, saved: Path, tmp_path: Path
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(saved)
    pipeline.save_pretrained(tmp_path / "shards", max_shard_size="200KB", variant=variant)
    stub_hub.add(NAME, tmp_path / "shards")
    loaded = load_model(NAME, device="cpu", dtype="float32")
    assert len([name for name in stub_hub.served if name.startswith("unet/") and "-of-" in name]) > 1
    assert torch.equal(noise(loaded), noise(load_model(saved, device="cpu", dtype="float32")))


def test_a_second_time_nothing_is_downloaded_and_offline_the_cache_answers(
    published: StubHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_model(NAME, device="cpu", dtype="float32")
    published.served.clear()
    load_model(NAME, device="cpu", dtype="float32")
    monkeypatch.setattr(constants, OFFLINE, True)
    offline = load_model(NAME, device="cpu", dtype="float32")
    assert published.served == []
    assert torch.equal(noise(offline), noise(first))
    assert offline.fingerprint == first.fingerprint


def test_offline_a_model_that_is_not_cached_is_refused_in_one_line(
    published: StubHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, OFFLINE, True)
    with pytest.raises(ModelNotFoundError, match=r"not in the local cache, and HF_HUB_OFFLINE forbids") as caught:
        load_model(NAME, device="cpu")
    assert "\n" not in str(caught.value)
    assert published.served == []


@pytest.mark.parametrize("reachable", ["offline", "down"])
def test_a_model_that_is_cached_in_part_is_refused_where_the_hub_cannot_be_asked(
    reachable: str, published: StubHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf_hub_download(NAME, "model_index.json")
    if reachable == "offline":
        monkeypatch.setattr(constants, OFFLINE, True)
    else:
        published.down = True
    with pytest.raises(ModelNotFoundError, match=r"only a part of it is in the local cache, and") as caught:
        load_model(NAME, device="cpu")
    assert "\n" not in str(caught.value)


def test_what_the_settings_tell_is_said_before_any_weight_is_downloaded(published: StubHub, model: Path) -> None:
    (model / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "EDMEulerScheduler"}')
    with pytest.raises(ModelError, match=r"scheduler \(EDMEulerScheduler\) are not given by betas"):
        load_model(NAME, device="cpu")
    config = json.loads((model / "unet" / "config.json").read_text())
    (model / "unet" / "config.json").write_text(json.dumps(config | {"in_channels": 8}))
    other = Path(shutil.copytree(model, model.with_name("pix2pix")))
    published.add("someone/pix2pix", other)
    with pytest.raises(ModelError, match="is an InstructPix2Pix model, which needs the image"):
        load_model("someone/pix2pix", device="cpu")
    assert not [name for name in published.served if name.endswith(".safetensors")]


def save_wide_vae(folder: Path) -> str:
    AutoencoderKL.from_config(tiny_vae().config, latent_channels=16).save_pretrained(folder)
    return str(folder)


def test_what_is_wrong_with_other_settings_is_said_before_any_weight_is_downloaded(
    published: StubHub, tmp_path: Path
) -> None:
    for settings, said in (
        ({"vae": "no/vae"}, "there is no VAE at 'no/vae'"),
        ({"vae": "vae.ckpt"}, "a pickle"),
        ({"vae": save_wide_vae(tmp_path / "wide")}, "have 16 channels, the model's have 4"),
        ({"loras": [LoRA(path="no.safetensors")]}, "the adapter .* was not found"),
        ({"textual_inversions": [TextualInversion(path="no/word")]}, "the adapter .* was not found"),
    ):
        with pytest.raises((ModelError, ModelNotFoundError), match=said):
            load_model(NAME, device="cpu", **settings)  # type: ignore[arg-type]
    assert not [name for name in published.served if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("index", "config"),
    [
        ({"unet": ["custom", "X"]}, {}),
        ({"scheduler": ["diffusers", "None"]}, {}),
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, {"_class_name": "UNet3DConditionModel"}),
        ({}, {"in_channels": 6}),
    ],
)
def test_parts_of_another_class_or_size_are_refused_before_any_weight_is_downloaded(
    index: dict[str, object], config: dict[str, object], published: StubHub, model: Path
) -> None:
    for file, changes in ((model / "model_index.json", index), (model / "unet" / "config.json", config)):
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ModelError, match=r"class of the|takes 6 channels"):
        load_model(NAME, device="cpu")
    assert not [name for name in published.served if name.endswith(".safetensors")]


@pytest.mark.parametrize("changes", [{"_class_name": "FluxControlNetModel"}, {"layers_per_block": 2}])
def test_a_controlnet_of_another_class_or_size_is_refused_before_its_weights_are_downloaded(
    changes: dict[str, object], stub_hub: StubHub, tmp_path: Path
) -> None:
    config = save_tiny_controlnet(tmp_path / "controlnet") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    stub_hub.add("someone/controlnet", config.parent)
    with pytest.raises(ModelError, match=r"class of .* is FluxControlNetModel|was trained for another model"):
        tiny_model().load_control("someone/controlnet")
    assert stub_hub.served == ["config.json"]


def test_a_shard_that_is_not_cached_is_said_to_be_offline(
    stub_hub: StubHub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    StableDiffusionPipeline.from_pretrained(saved).save_pretrained(folder, max_shard_size="200KB")
    stub_hub.add(NAME, folder)
    left_out = min((folder / "unet").glob("*-of-*.safetensors"))
    for file in folder.rglob("*.*"):
        if file != left_out and file.is_file():
            hf_hub_download(NAME, file.relative_to(folder).as_posix())
    monkeypatch.setattr(constants, OFFLINE, True)
    with pytest.raises(ModelNotFoundError, match=r"only a part of it is in the local cache, and HF_HUB_OFFLINE"):
        load_model(NAME, device="cpu")


def test_a_controlnet_may_be_a_file_of_a_repository(stub_hub: StubHub, tmp_path: Path) -> None:
    folder = save_tiny_controlnet(tmp_path / "controlnet")
    (weights,) = folder.glob("*.safetensors")
    (tmp_path / "files").mkdir()
    weights.rename(tmp_path / "files" / "control_canny.safetensors")
    stub_hub.add("someone/files", tmp_path / "files")
    tiny_model().load_control("someone/files/control_canny.safetensors")
    assert stub_hub.served == ["control_canny.safetensors"]
    assert control_fingerprint("someone/files/control_canny.safetensors") == control_fingerprint(
        str(tmp_path / "files" / "control_canny.safetensors")
    )


def test_a_revision_behind_the_name_is_told_its_setting(stub_hub: StubHub) -> None:
    with pytest.raises(ModelNotFoundError, match=r"for the revision 'fp16' of 'someone/model', set model\.revision"):
        load_model("someone/model@fp16", device="cpu")


def test_what_lacks_on_the_hub_is_said_before_any_weight_is_downloaded(published: StubHub, model: Path) -> None:
    (model / "vae" / "diffusion_pytorch_model.safetensors").rename(model / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"safetensors weights in vae/ and has only diffusion_pytorch_model\.bin, a pickle"
    ):
        load_model(NAME, device="cpu")
    assert published.served == ["model_index.json"]


@pytest.mark.parametrize("class_name", ["StableDiffusion3Pipeline", "WanPipeline"])
def test_another_family_is_refused_by_its_class_before_any_weight_is_downloaded(
    class_name: str, published: StubHub, model: Path
) -> None:
    (model / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    with pytest.raises(ModelError, match=rf"the class of the model '{NAME}' is {class_name}, which is not supported"):
        load_model(NAME, device="cpu")
    assert published.served == ["model_index.json"]


def test_a_revision_is_what_is_loaded_and_part_of_the_fingerprint(
    published: StubHub, model: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    (other / "scheduler" / "scheduler_config.json").write_text(
        (model / "scheduler" / "scheduler_config.json").read_text().replace('"epsilon"', '"v_prediction"')
    )
    commit = published.add(NAME, other, "v2")
    by_name = load_model(NAME, revision="v2", device="cpu", dtype="float32")
    assert by_name.schedule.prediction_type == "v_prediction"  # type: ignore[attr-defined]
    by_commit = load_model(NAME, revision=commit, device="cpu", dtype="float32")
    assert by_name.fingerprint == by_commit.fingerprint
    assert stored_fingerprint(NAME, revision="v2", device="cpu", dtype="float32") == by_name.fingerprint
    assert load_model(NAME, device="cpu", dtype="float32").fingerprint != by_name.fingerprint


def test_a_revision_that_is_missing_is_said(published: StubHub) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no revision 'v3'; set model\.revision"):
        load_model(NAME, revision="v3", device="cpu")


def test_a_repository_that_is_missing_is_said(stub_hub: StubHub) -> None:
    with pytest.raises(ModelNotFoundError, match=r"the Hub has no repository of that name that you can access"):
        load_model("someone/nothing", device="cpu")


def test_a_repository_with_terms_says_what_to_accept(stub_hub: StubHub) -> None:
    stub_hub.gated.add("someone/gated")
    with pytest.raises(ModelNotFoundError, match=r"is gated: accept its terms on its page and run `hf auth login`"):
        load_model("someone/gated", device="cpu")


def test_a_repository_without_a_folder_layout_is_said(stub_hub: StubHub, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.safetensors").write_bytes(b"")
    stub_hub.add(NAME, tmp_path / "files")
    with pytest.raises(ModelNotFoundError, match=r"has no model_index\.json.*download one of its files"):
        load_model(NAME, device="cpu")


@pytest.mark.parametrize(("old", "new"), WITHDRAWN.items())
def test_a_withdrawn_id_becomes_the_one_its_weights_are_kept_under(
    old: str, new: str, published: StubHub, saved: Path
) -> None:
    published.add(new, saved)
    with pytest.warns(
        TokenflowWarning, match=rf"'{old}' was removed from the Hub; using the same weights from '{new}'"
    ):
        loaded = load_model(old, device="cpu", dtype="float32")
    assert stored_fingerprint(old, device="cpu", dtype="float32") == loaded.fingerprint


def test_a_controlnet_on_the_hub_is_downloaded_in_the_variant_that_it_has(
    published: StubHub, tmp_path: Path, saved: Path
) -> None:
    folder = save_tiny_controlnet(tmp_path / "controlnet")
    (weights,) = folder.glob("*.safetensors")
    weights.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    (folder / "README.md").write_text("")
    published.add("someone/controlnet", folder)
    load_model(saved, device="cpu").load_control("someone/controlnet")
    assert published.served == ["config.json", "diffusion_pytorch_model.fp16.safetensors"]
    assert control_fingerprint("someone/controlnet") != control_fingerprint("someone/other")


def test_a_missing_controlnet_on_the_hub_is_said(stub_hub: StubHub, saved: Path) -> None:
    model = load_model(saved, device="cpu")
    with pytest.raises(ModelNotFoundError, match=r"no ControlNet at 'someone/no': .*no repository of that name"):
        model.load_control("someone/no")
    stub_hub.add("someone/model", saved)
    with pytest.raises(ModelNotFoundError, match=r"no ControlNet at 'someone/model': .*has no such file"):
        model.load_control("someone/model")


def test_a_controlnet_that_is_cached_in_part_is_refused_offline(
    published: StubHub, tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.add("someone/controlnet", save_tiny_controlnet(tmp_path / "controlnet"))
    hf_hub_download("someone/controlnet", "config.json")
    monkeypatch.setattr(constants, OFFLINE, True)
    with pytest.raises(ModelNotFoundError, match=r"only a part of it is in the local cache, and .*HF_HUB_OFFLINE"):
        load_model(saved, device="cpu").load_control("someone/controlnet")


def test_an_adapter_on_the_hub_is_the_file_that_is_named_or_else_the_usual_one_or_the_only_one(
    stub_hub: StubHub, tmp_path: Path
) -> None:
    for name, files in {"usual": ["pytorch_lora_weights", "a"], "only": ["toy"], "two": ["a", "b"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / f"{file}.safetensors").write_bytes(file.encode())
        stub_hub.add(f"someone/{name}", tmp_path / name)
    for name, found in {
        "someone/usual": b"pytorch_lora_weights",
        "someone/only": b"toy",
        "someone/two/b.safetensors": b"b",
    }.items():
        assert find_file(name, "model.loras").read_bytes() == found
    with pytest.raises(ModelNotFoundError, match=r"has 2 \.safetensors files; set model\.loras to the one"):
        find_file("someone/two", "model.loras")


@pytest.mark.parametrize("name", ["someone/missing", "someone/missing/a.safetensors"])
def test_an_adapter_that_the_hub_does_not_have_is_said(name: str, stub_hub: StubHub) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"the adapter .* was not found .* the Hub has no repository of that name"
    ):
        find_file(name, "model.loras")


@pytest.mark.parametrize("name", ["missing.safetensors", "loras/missing.safetensors"])
def test_a_file_name_is_not_asked_for_on_the_hub(name: str, stub_hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "download_file", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(ModelNotFoundError, match=rf"the adapter '{name}' was not found in .*; set model\.loras"):
        find_file(name, "model.loras")


def test_a_vae_on_the_hub_is_taken_from_its_own_repository_or_that_of_a_model(
    published: StubHub, model: Path, saved: Path
) -> None:
    published.add("someone/vae", model / "vae")
    for name, prefix in (("someone/vae", ""), (NAME, "vae/")):
        published.served.clear()
        load_model(saved, vae=name, device="cpu")
        assert published.served == [f"{prefix}config.json", f"{prefix}diffusion_pytorch_model.safetensors"]
