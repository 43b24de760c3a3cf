"""How much memory ComfyUI is asked for before models are loaded."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from comfy import model_management
from conftest import Nodes


@pytest.fixture(scope="module")
def memory(pack: ModuleType, nodes: Nodes) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.host.memory")


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A folder as on the Hub: several variants, parts of files, and what no edit loads."""
    folder = tmp_path / "model"
    sizes = {
        "model_index.json": 1,
        "whole.safetensors": 1000,
        "unet/diffusion_pytorch_model.fp16.safetensors": 50,
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors": 60,
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors": 40,
        "vae/diffusion_pytorch_model.safetensors": 7,
        "text_encoder/model.safetensors": 20,
        "text_encoder_2/model.safetensors": 30,
        "safety_checker/model.safetensors": 500,
    }
    for name, size in sizes.items():
        write(folder / name, size)
    return folder


def test_each_network_counts_once_in_its_largest_variant(pipeline: Path, memory: ModuleType) -> None:
    assert memory.room_for([str(pipeline)]) == 100 + 7 + 20 + 30


def test_what_is_loaded_beside_counts_too(pipeline: Path, tmp_path: Path, memory: ModuleType) -> None:
    write(tmp_path / "lora.safetensors", 3)
    assert memory.room_for([str(pipeline), str(tmp_path / "lora.safetensors"), "/no/where"]) == 160


def test_with_offload_only_the_largest_is_on_the_device(pipeline: Path, memory: ModuleType) -> None:
    assert memory.room_for([str(pipeline)], offload=True) == 100


def test_a_model_that_is_still_to_be_downloaded_may_need_all(
    pipeline: Path, memory: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "try_to_load_from_cache", lambda *_: None)
    assert memory.room_for(["someone/model"]) == model_management.get_total_memory()
    monkeypatch.setattr(memory, "try_to_load_from_cache", lambda _, name: str(pipeline / name))
    assert memory.room_for(["someone/model"]) == 157
    assert memory.room_for(["flux.2-klein-4b"]) == 157  # a short name
