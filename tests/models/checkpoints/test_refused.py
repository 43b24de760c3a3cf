"""What is refused by its name, and what is said of names that mean something else."""

import shutil
from pathlib import Path

import pytest

from tests.models.checkpoints.stub_hub import StubHub
from tests.tiny import tiny_model
from tokenflow.config import LoRA
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.loading import load_model


@pytest.mark.parametrize(
    "name",
    ["black-forest-labs/FLUX.1-Fill-dev", "stabilityai/stable-diffusion-3-medium", "Wan-AI/Wan2.1-T2V", "flux-pro"],
)
def test_models_of_known_owners_are_refused_by_name(name: str, stub_hub: StubHub) -> None:
    with pytest.raises(ModelError, match=r"is not supported|is available only through an API"):
        load_model(name, device="cpu")


@pytest.mark.parametrize("name", ["me/redux-style-sdxl", "someone/portrait-fill-sd15", "me/wan2-anime", "me/sd3-like"])
def test_models_of_others_may_be_called_anything(name: str, stub_hub: StubHub) -> None:
    with pytest.raises(ModelNotFoundError, match="the Hub has no repository of that name"):
        load_model(name, device="cpu")


@pytest.mark.parametrize("name", ["part.ckpt", "part.PTH"])
@pytest.mark.parametrize("exists", [True, False])
def test_pickles_are_refused_wherever_a_network_is_named(
    name: str, exists: bool, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if exists:
        Path(name).write_bytes(b"x")
    with pytest.raises(ModelError, match=rf"model\.vae is '{name}', a pickle"):
        load_model(saved, vae=name, device="cpu")
    with pytest.raises(ModelError, match=rf"model\.loras is '{name}', a pickle"):
        load_model(saved, loras=[LoRA(path=name)], device="cpu")
    with pytest.raises(ModelError, match=rf"edit\.controlnet\.path is '{name}', a pickle"):
        tiny_model().load_control(name)


def test_other_formats_are_refused_without_asking_the_hub(saved: Path, stub_hub: StubHub) -> None:
    with pytest.raises(ModelError, match=r"model\.vae is 'vae\.gguf', which is not a \.safetensors file"):
        load_model(saved, vae="vae.gguf", device="cpu")
    with pytest.raises(ModelError, match=r"model\.path is 'https://.*', a web address; expected a path or a Hub id"):
        load_model("https://huggingface.co/someone/model", device="cpu")


def test_a_folder_around_a_model_and_one_in_it_name_the_model(saved: Path, tmp_path: Path) -> None:
    model = shutil.copytree(saved, tmp_path / "outer" / "inner")
    for folder in (tmp_path / "outer", model / "unet"):
        with pytest.raises(ModelError, match=rf"has no model_index\.json.*; set model\.path to the model '{model}'"):
            load_model(folder, device="cpu")


def test_a_folder_may_be_called_as_a_file(saved: Path, tmp_path: Path) -> None:
    load_model(shutil.copytree(saved, tmp_path / "model.safetensors"), device="cpu")
