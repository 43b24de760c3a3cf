import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tokenflow
from tests.families import PIPELINES
from tests.models.adapters.making import network_of
from tests.tiny import tiny_lcm_pipeline
from tokenflow.config import LoRATraining, load_training
from tokenflow.errors import Cancelled, ClipError, ConfigError, ModelError, OutputError, TokenflowWarning
from tokenflow.events import Progress
from tokenflow.pipeline.lora import training
from tokenflow.pipeline.lora.card import CARD
from tokenflow.pipeline.lora.run import WEIGHTS
from tokenflow.pipeline.lora.state import STATE
from tokenflow.pipeline.lora.training import train_lora


@pytest.fixture(scope="module")
def saved(families: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models") / "lcm"
    tiny_lcm_pipeline().save_pretrained(folder)
    return {**families, "lcm": folder}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index}.png")
    (folder / "1.txt").write_text("a cat")
    return folder


def settings(model: Path, images: Path, output: Path, /, **changes: Any) -> LoRATraining:
    values = {
        "model": {"path": str(model), "device": "cpu"},
        "images": str(images),
        "caption": "a dog",
        "output": str(output),
        "steps": 4,
        "learning_rate": 0.01,
        "rank": 2,
        "sample_every": 2,
    }
    return load_training(values | changes, [], name="test")


@pytest.mark.parametrize("family", PIPELINES)
def test_the_lora_changes_the_model_and_diffusers_reads_it(
    family: str, saved: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    trained = train_lora(settings(saved[family], images, tmp_path / "out", layers="all"))
    pipeline = PIPELINES[family]()
    pipeline.load_lora_weights(tmp_path / "out")
    model = tokenflow.load_model(
        saved[family], device="cpu", dtype="float32", loras=[tokenflow.LoRA(path=str(trained.file))]
    )
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompt, at = model.condition("a dog", negative=True), model.schedule.steps(4, tokens=16)[1].at
    ours = model.predict(latents, at, prompt)
    assert (ours - model.base.predict(latents, at, prompt)).abs().max() > 1e-4
    names = {name.split(".")[0] for name in load_file(trained.file)}
    assert names == {network_of(pipeline)}
    assert "a dog" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_the_loss_falls_on_the_images(saved: dict[str, Path], images: Path, tmp_path: Path) -> None:
    changes = {"layers": "all", "rank": 8, "batch_size": 8, "empty_captions": 0.0}
    first = train_lora(settings(saved["sd"], images, tmp_path / "a", steps=2, **changes)).loss
    train_lora(settings(saved["sd"], images, tmp_path / "a", steps=18, sample_every=40, **changes))
    last = train_lora(settings(saved["sd"], images, tmp_path / "a", steps=20, **changes)).loss
    assert first is not None
    assert last is not None
    assert last < 0.9 * first


def test_what_is_kept_changes_less(saved: dict[str, Path], images: Path, tmp_path: Path) -> None:
    def change(name: str, **kept: Any) -> float:
        options = {"layers": "all", "rank": 8, "batch_size": 4, "steps": 30, "sample_every": 40}
        trained = train_lora(settings(saved["sd"], images, tmp_path / name, **options, **kept))
        lora = tokenflow.LoRA(path=str(trained.file))
        model = tokenflow.load_model(saved["sd"], device="cpu", dtype="float32", loras=[lora])
        image = tokenflow.generate(model.base, "a tree", seed=1)
        latents = model.encode(torch.from_numpy(image).permute(0, 3, 1, 2) / 255)
        at, prompt = model.schedule.steps(4)[2].at, model.condition("a tree")
        return float((model.predict(latents, at, prompt) - model.base.predict(latents, at, prompt)).abs().mean())

    free, kept = change("free"), change("kept", keep=["a tree"])
    assert kept < 0.7 * free


def test_an_interrupted_training_continues_to_the_same_weights(
    saved: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    whole = train_lora(settings(saved["sd"], images, tmp_path / "whole", keep=["a cat"], keep_images=1))
    asked = iter([False] * 40)

    def cancel() -> bool:
        done = (tmp_path / "parts" / STATE).exists()
        return done or next(asked, True)

    with pytest.raises(Cancelled):
        train_lora(settings(saved["sd"], images, tmp_path / "parts", keep=["a cat"], keep_images=1), cancel=cancel)
    parts = train_lora(settings(saved["sd"], images, tmp_path / "parts", keep=["a cat"], keep_images=1))
    first, second = load_file(whole.file), load_file(parts.file)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_samples_are_made_on_the_way(saved: dict[str, Path], images: Path, tmp_path: Path) -> None:
    train_lora(settings(saved["sd"], images, tmp_path, samples=["a dog", "a cat"], steps=2, sample_every=1))
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == ["000001.png", "000002.png"]
    with Image.open(files[0]) as image:
        assert image.size == (2 * 16, 16)


def test_other_settings_do_not_continue_a_training(saved: dict[str, Path], images: Path, tmp_path: Path) -> None:
    train_lora(settings(saved["sd"], images, tmp_path))
    with pytest.raises(ConfigError, match=r"with other settings \(learning_rate: 0\.01, now 0\.02\); choose another"):
        train_lora(settings(saved["sd"], images, tmp_path, learning_rate=0.02))
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"cannot be read .*; delete .* to train from the beginning"):
        train_lora(settings(saved["sd"], images, tmp_path))


def test_what_changes_nothing_does_not_stop_a_training_from_continuing(
    saved: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "images")
    for name in ("0.txt", "1.txt"):
        (tmp_path / "images" / name).write_text("a cat")
    train_lora(settings(saved["sd"], tmp_path / "images", tmp_path / "out"))
    model = {
        "path": str(saved["sd"].parent / ".." / saved["sd"].parent.name / "sd"),
        "device": "cpu",
        "dtype": "float32",
    }
    changes = {"model": model, "keep_images": 5, "caption": "another"}
    again = train_lora(settings(saved["sd"], tmp_path / "images", tmp_path / "out", **changes))
    assert (again.steps, again.loss) == (4, None)
    with pytest.warns(TokenflowWarning, match="has a LoRA of 4 steps already"):
        fewer = train_lora(settings(saved["sd"], tmp_path / "images", tmp_path / "out", steps=2))
    assert fewer.steps == 4


def test_ctrl_c_keeps_the_steps_that_are_done(saved: dict[str, Path], images: Path, tmp_path: Path) -> None:
    def interrupt(event: Any) -> None:
        if isinstance(event, Progress) and event.stage == "train" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_lora(settings(saved["sd"], images, tmp_path / "parts", sample_every=100), on_event=interrupt)
    seen: list[int] = []

    def listen(event: Any) -> None:
        if isinstance(event, Progress) and event.stage == "train":
            seen.append(event.done)

    parts = train_lora(settings(saved["sd"], images, tmp_path / "parts", sample_every=100), on_event=listen)
    assert min(seen) == 3
    whole = train_lora(settings(saved["sd"], images, tmp_path / "whole", sample_every=100))
    first, second = load_file(whole.file), load_file(parts.file)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", [WEIGHTS, CARD])
def test_a_file_of_the_users_is_not_overwritten(
    name: str, saved: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=r"would be overwritten; choose another output"):
        train_lora(settings(saved["sd"], images, tmp_path))
    assert (tmp_path / name).read_text() == "mine"


def test_what_would_stop_training_later_is_told_before_the_model_is_loaded(
    saved: dict[str, Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(training, "load_model", load)
    (tmp_path / "file").touch()
    for output in ("file", "file/below"):
        with pytest.raises(OutputError, match="is not a folder"):
            train_lora(settings(saved["sd"], images, tmp_path / output))
    for prompts in ({"samples": ["(a:-1)"]}, {"keep": ["(a:-1)"]}):
        with pytest.raises(ConfigError, match="expected 0 or more"):
            train_lora(settings(saved["sd"], images, tmp_path / "out", **prompts))
    for change in ({"quantization": "int8"}, {"offload": True}, {"compile": True}, {"loras": [{"path": "a"}]}):
        model = {"path": str(saved["sd"]), "device": "cpu", **change}
        with pytest.raises(ConfigError, match=rf"trains on the plain model; remove model.{next(iter(change))}"):
            train_lora(settings(saved["sd"], images, tmp_path / "out", model=model))
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "._0.png").write_bytes(b"left by macOS")
    (tmp_path / "images" / "1.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ClipError, match=r"the caption .*1.txt' cannot be read .*; save it as text in UTF-8"):
        train_lora(settings(saved["sd"], tmp_path / "images", tmp_path / "out"))
    (tmp_path / "images" / "2.png").write_bytes(b"not an image")
    with pytest.raises(ClipError, match=r"the image .*2.png' cannot be read"):
        train_lora(settings(saved["sd"], tmp_path / "images", tmp_path / "out"))


def test_what_cannot_be_trained_is_refused(saved: dict[str, Path], images: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="distilled to few steps"):
        train_lora(settings(saved["lcm"], images, tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipError, match="has no images"):
        train_lora(settings(saved["sd"], tmp_path / "empty", tmp_path / "out"))
    said = r"model: missing; set model\.path=… \(a folder in diffusers' layout"
    with pytest.raises(ConfigError, match=said):
        load_training({"images": str(images), "caption": "a dog", "output": "out"}, [], name="test")
    with pytest.raises(ConfigError, match="rank"):
        settings(saved["sd"], images, tmp_path, rank=0)
