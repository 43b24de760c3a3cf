"""`tokenflow init`: the commented configuration it writes, which runs once its sentences are filled in."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.apps.conftest import status
from tokenflow.apps.init import KEYS
from tokenflow.config import Config, load_config
from tokenflow.config.suggestions import default, description
from tokenflow.errors import ConfigError

SENTENCES = ("--from", "a dog: {brown}, ${x} – 狗", "--to", "a tiger")
OURS = {"clip.path", "clip.prompt", "model.path", "edit.prompt", "output.dir"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a clip and the bundled model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "models" / "mini-sd").mkdir(parents=True)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "dog.png")
    return tmp_path


def test_the_file_is_named_after_the_clip_and_loads_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("init", "dog.png", *SENTENCES) == 0
    assert capsys.readouterr().out == "dog.yaml\n"
    config = load_config(folder / "dog.yaml", environment={})
    assert config == Config.model_validate(
        {
            "clip": {"path": "dog.png", "prompt": SENTENCES[1]},
            "model": {"path": "data/models/mini-sd"},
            "edit": {"prompt": "a tiger"},
            "output": {"dir": "outputs/dog-a-tiger"},
        }
    )


def test_every_setting_has_its_description_and_its_default(folder: Path) -> None:
    assert status("init", "dog.png", *SENTENCES) == 0
    text = (folder / "dog.yaml").read_text(encoding="utf-8")
    words = " ".join(text.replace("#", " ").split())
    content = yaml.safe_load(text)
    for key in KEYS:
        assert " ".join(description(Config, key).split()) in words
        section, _, name = key.rpartition(".")
        if key not in OURS:
            assert (content[section] if section else content)[name] == default(Config, key)


@pytest.mark.usefixtures("folder")
def test_sentences_that_are_not_given_are_to_be_filled_in() -> None:
    assert status("init", "dog.png", "--output", "my edit.yaml") == 0
    with pytest.raises(ConfigError, match=r"clip\.prompt: expected a valid string, got null; edit\.prompt: expected"):
        load_config("my edit.yaml", environment={})
    config = load_config("my edit.yaml", ["clip.prompt=a dog", "edit.prompt=a cat"], environment={})
    assert config.output.dir == Path("outputs/dog")


def test_a_file_of_that_name_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dog.yaml").write_text("mine")
    assert status("init", "dog.png") == 2
    assert "dog.yaml exists already and stays; choose another --output" in capsys.readouterr().err
    assert (folder / "dog.yaml").read_text() == "mine"


def test_a_missing_clip_leaves_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("init", "cat.mp4") == 2
    assert "there is no clip at cat.mp4" in capsys.readouterr().err
    assert not (folder / "cat.yaml").exists()


@pytest.mark.usefixtures("folder")
def test_a_folder_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("init", "dog.png", "--output", "nowhere/dog.yaml") == 2
    assert "cannot write to nowhere" in capsys.readouterr().err
