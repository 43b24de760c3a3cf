"""What a file needs of `model.base`: its configurations, its tokenizer, and the classes of its parts."""

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline
from huggingface_hub import constants, hf_hub_download

from tests.models.checkpoints.original import save_original
from tests.models.checkpoints.stub_hub import StubHub
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.checkpoints.single_file import BASES
from tokenflow.models.loading import load_model


def load(path: Path, **settings: Any) -> Any:
    return load_model(path, device="cpu", dtype="float32", **settings)


@pytest.fixture(scope="module")
def file(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original(
        tmp_path_factory.mktemp("file") / "model.safetensors", StableDiffusionPipeline.from_pretrained(saved)
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tokenizer/tokenizer.json", r"has no vocabulary in tokenizer/ \(tokenizer\.json, or vocab\.json and merges"),
        ("unet/config.json", r"has no config\.json in unet/; download it again"),
        ("text_encoder/config.json", r"has no config\.json in text_encoder/"),
        ("scheduler/scheduler_config.json", r"has nothing in scheduler/"),
    ],
)
def test_a_base_that_lacks_a_file_is_refused(name: str, said: str, file: Path, model: Path) -> None:
    (model / name).unlink()
    with pytest.raises(ModelError, match=rf"the model '{model}' {said}"):
        load(file, base=str(model))


def test_a_vocabulary_without_its_merges_is_none(file: Path, model: Path) -> None:
    (model / "tokenizer" / "tokenizer.json").unlink()
    (model / "tokenizer" / "vocab.json").write_text("{}")
    with pytest.raises(ModelError, match="has no vocabulary in tokenizer/"):
        load(file, base=str(model))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text_encoder": None}, r"has no text_encoder; set model\.base to another"),
        ({"text_encoder": [None, None]}, r"has no text_encoder; set model\.base"),
        ({"unet": ["diffusers"]}, r"has no unet; set model\.base"),
        ({"text_encoder": ["custom", "X"]}, r"class of the text_encoder of .* is X of custom.*set model\.base"),
        ({"text_encoder": ["transformers", "pipeline"]}, r"is pipeline of transformers; expected a class"),
        ({"scheduler": ["diffusers", "None"]}, r"class of the scheduler of .* is None of diffusers"),
        (
            {"_class_name": ["my_pipeline", "Mine"]},
            r"is \['my_pipeline', 'Mine'\], which is not supported.*model\.base",
        ),
    ],
)
def test_a_base_with_a_part_of_an_unknown_class_is_refused(
    changes: dict[str, Any], said: str, file: Path, model: Path
) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps(index | changes))
    with pytest.raises(ModelError, match=said):
        load(file, base=str(model))


def test_a_base_that_is_cached_in_part_is_said_to_be_offline(
    file: Path, saved: Path, stub_hub: StubHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_hub.add("a/b", saved)
    for path in saved.rglob("*.json"):
        if path.name != "tokenizer.json":
            hf_hub_download("a/b", path.relative_to(saved).as_posix())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match=r"only a part of it is in the local cache, and HF_HUB_OFFLINE"):
        load(file, base="a/b")


def test_a_base_on_the_hub_without_a_vocabulary_is_refused(file: Path, model: Path, stub_hub: StubHub) -> None:
    (model / "tokenizer" / "tokenizer.json").unlink()
    stub_hub.add("a/b", model)
    with pytest.raises(ModelError, match="the model 'a/b' has no vocabulary in tokenizer/"):
        load(file, base="a/b")


def test_a_base_and_a_vae_may_have_short_names(file: Path, saved: Path, stub_hub: StubHub) -> None:
    stub_hub.add(BASES["1.x"], saved)
    load(file, base="sd1.5", vae="sd1.5")


def test_a_base_that_is_a_file_is_said_to_be_one(file: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"model\.base is the file .*; set model\.base to a folder or Hub id"):
        load(file, base=str(file))
