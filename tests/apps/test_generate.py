"""tokenflow generate: which images it makes, and which files it writes."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tokenflow
from tests.apps.conftest import status
from tests.tiny import save_tiny_model
from tokenflow.apps.commands.generate import generate


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, ["dog.png"]), (11, [f"dog_{index:02d}.png" for index in range(11)])],
    ids=["one", "several"],
)
def test_images_are_those_of_the_library_in_a_folder_that_is_created(
    count: int, names: list[str], model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "folder" / "dog.png"
    options = ["--size", "24x16", "--steps", "2", "--seed", "3", "--guidance-scale", "2", "--negative-prompt", "rain"]
    arguments = [model, "a dog", "--output", str(output), "--count", str(count), *options, "--quiet"]
    assert status("generate", *arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(output.with_name(name)) for name in names]
    assert sorted(path.name for path in output.parent.iterdir()) == names
    expected = tokenflow.generate(
        tokenflow.load_model(model),
        "a dog",
        negative_prompt="rain",
        size=(24, 16),
        steps=2,
        guidance_scale=2,
        seed=3,
        count=count,
    )
    for name, image in zip(names, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(output.with_name(name))), image)


def test_an_earlier_image_is_replaced(model: str, tmp_path: Path) -> None:
    output = tmp_path / "dog.png"
    arguments = ["generate", model, "a dog", "--output", str(output), "--steps", "1", "--quiet"]
    assert status(*arguments) == 0
    first = output.read_bytes()
    assert status(*arguments, "--seed", "1") == 0
    assert output.read_bytes() != first
    assert status(*arguments) == 0
    assert output.read_bytes() == first


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("dog.jpg", "expected a file name that ends in .png for --output, got "),
        ("folder.png", "folder.png (it is a folder); choose another --output"),
        ("file/dog.png", "choose another --output"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_before_the_work(
    output: str,
    message: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(tokenflow, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    assert status("generate", model, "a dog", "--output", str(tmp_path / output), "--quiet") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1


def test_a_missing_model_is_an_error_that_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "model.safetensors")
    assert status("generate", missing, "a dog", "--output", str(tmp_path / "new" / "dog.png")) == 2
    error = capsys.readouterr().err
    assert "the model file" in error
    assert "was not found" in error
    assert not list(tmp_path.iterdir())


def test_device_and_precision_are_those_of_the_model(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load, loaded = tokenflow.load_model, []
    monkeypatch.setattr(
        tokenflow, "load_model", lambda *a, **k: loaded.append((k["device"], k["dtype"])) or load(*a, **k)
    )
    arguments = ["generate", model, "a dog", "--output", str(tmp_path / "dog.png"), "--steps", "1", "--quiet"]
    assert status(*arguments, "--device", "cpu", "--dtype", "bfloat16") == 0
    assert loaded == [("cpu", "bfloat16")]
    capsys.readouterr()
    assert status(*arguments, "--dtype", "int8") == 2
    assert "expected auto, float32, float16, bfloat16" in capsys.readouterr().err


def test_defaults_are_those_of_the_library() -> None:
    command, function = inspect.signature(generate).parameters, inspect.signature(tokenflow.generate).parameters
    names = {"negative_prompt", "size", "steps", "guidance_scale", "seed", "count"}
    assert {name: command[name].default for name in names} == {name: function[name].default for name in names}
    load = inspect.signature(tokenflow.load_model).parameters
    assert {name: command[name].default for name in ("device", "dtype")} == {
        name: load[name].default for name in ("device", "dtype")
    }
