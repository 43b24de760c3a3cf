from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.models.checkpoints.stub_hub import StubHub, serving
from tests.tiny import save_tiny_model
from tokenflow.apps.cli import main


def run(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train-lora", *map(str, words)])
    assert not end.value.code


def test_a_folder_or_a_file_of_settings_gives_a_lora_that_edits_can_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images = save_tiny_model(tmp_path / "model"), tmp_path / "toys"
    images.mkdir()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(images / "0.png")
    run(images, "model.device=cpu", "rank=2", "--caption", "a toy", "--model", model, "--steps", 1)
    folder = tmp_path / "toys-lora"
    assert (folder / "pytorch_lora_weights.safetensors").is_file()
    assert f"model.loras=[{{path: {folder}}}]" in capsys.readouterr().out
    config = tmp_path / "training.yaml"
    settings = {"model": {"path": str(model)}, "images": str(images), "caption": "a toy", "output": str(tmp_path / "b")}
    config.write_text(yaml.safe_dump(settings))
    run(config, "steps=1", "rank=2", "model.device=cpu")
    assert (tmp_path / "b" / "README.md").is_file()


def test_push_uploads_the_lora_its_card_and_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = save_tiny_model(tmp_path / "model"), tmp_path / "toys"
    images.mkdir()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(images / "0.png")
    words = [images, "model.device=cpu", "rank=2", "samples=[a toy]", "--caption", "a toy", "--model", model]
    run(*words, "--steps", 1)
    hub = StubHub(owners={"secret": "someone"})
    with serving(hub, tmp_path / "cache", monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "secret")
        run(*words, "--steps", 1, "--push", "someone/toy-lora")  # trained already
    files = hub.pushed["someone/toy-lora"]
    assert set(files) == {"pytorch_lora_weights.safetensors", "README.md", "samples/000001.png"}
    assert "someone/toy-lora" in hub.private
    assert "/someone/toy-lora\n" in capsys.readouterr().out
    card = files["README.md"].decode()
    assert 'load_lora_weights("someone/toy-lora")' in card
    assert str(tmp_path) not in card
