"""`tokenflow edit CLIP --from … --to …`, and what a clip in place of a configuration is answered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apps.conftest import status
from tokenflow.apps.one_line import output_folder
from tokenflow.config import Config
from tokenflow.errors import TokenflowError
from tokenflow.events import Listener

SENTENCES = ("--from", "a dog on grass", "--to", "a tiger on grass")


@pytest.fixture
def configs(replace_run: Callable[[Callable[..., Any]], None]) -> list[Config]:
    """Fills with the configurations that edits are started with."""
    started: list[Config] = []

    def run(config: Config, *, on_event: Listener) -> None:
        started.append(config)
        raise TokenflowError("enough")

    replace_run(run)
    return started


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the bundled model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "models" / "mini-sd").mkdir(parents=True)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_clip_and_two_sentences_are_a_configuration(configs: list[Config]) -> None:
    assert status("edit", "shots/dog.mp4", *SENTENCES) == 2
    (config,) = configs
    assert config.clip.path == Path("shots/dog.mp4")
    assert config.clip.prompt == "a dog on grass"
    assert config.edit.prompt == "a tiger on grass"
    assert config.model.path == "data/models/mini-sd"
    assert config.output.dir == Path("outputs/dog-a-tiger-on-grass")


@pytest.mark.usefixtures("folder")
def test_settings_override_what_the_one_line_form_chooses(configs: list[Config]) -> None:
    assert status("edit", "dog.mp4", *SENTENCES, "edit.steps=7", "output.dir=mine", "model.path=other", "--quiet") == 2
    (config,) = configs
    assert config.edit.steps == 7
    assert config.output.dir == Path("mine")
    assert config.model.path == "other"


@pytest.mark.usefixtures("folder")
def test_names_and_sentences_are_taken_literally(configs: list[Config]) -> None:
    assert status("edit", "a${b}.mp4", "--from", "${clip.path}", "--to", "[1, 2]: *x") == 2
    (config,) = configs
    assert config.clip.path == Path("a${b}.mp4")
    assert config.clip.prompt == "${clip.path}"
    assert config.edit.prompt == "[1, 2]: *x"


def test_without_the_bundled_model_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status("edit", "dog.mp4", *SENTENCES) == 2
    assert capsys.readouterr().err == (
        "error: dog.mp4: model.path: missing; set model.path=… (a folder in diffusers' layout, a .safetensors or "
        ".gguf file, a Hub id, or a short name that `tokenflow models` lists, such as flux.2-klein-4b)\n"
    )


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["dog.mp4"], 'tokenflow edit dog.mp4 --from "what it shows" --to "a tiger on grass"'),
        (["dog.GIF", "a blue cat"], 'tokenflow edit dog.GIF --from "what it shows" --to "a blue cat"'),
        (["dog.mp4", "a", "cat", "edit.steps=5"], 'tokenflow edit dog.mp4 --from "what it shows" --to "a cat"'),
        (["shots", "--to", "a cat"], 'tokenflow edit shots --from "what it shows" --to "a cat"'),
        (["dog.mp4", "--from", "a dog"], 'tokenflow edit dog.mp4 --from "a dog" --to "a tiger on grass"'),
    ],
)
def test_what_is_missing_is_shown_in_a_command_to_copy(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("edit", *words) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.endswith(f"; write: {command}\n")


def test_sentences_without_quotes_are_told_to_be_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("edit", "dog.mp4", "--from", "a", "dog", "--to", "a", "tiger") == 2
    assert capsys.readouterr().err == (
        'error: expected key=value, got \'dog\'; quote sentences of several words: --from "a …" --to "a …"\n'
    )


def test_a_folder_of_images_is_a_clip_and_another_folder_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("edit", str(tmp_path)) == 2
    assert "not found" in capsys.readouterr().err
    (tmp_path / "0.png").touch()
    assert status("edit", str(tmp_path)) == 2
    assert "is a clip, not a configuration" in capsys.readouterr().err


def test_sentences_do_not_go_with_a_configuration(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("edit", settings, "--to", "a cat") == 2
    assert 'write "clip.prompt=…" and "edit.prompt=…" instead' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("clip", "prompt", "folder"),
    [
        ("a/My Dog.v2.mp4", "A Tiger, on grass!", "outputs/my-dog.v2-a-tiger-on-grass"),
        ("shots/%04d.png", "ein Tiger über Gras", "outputs/04d-ein-tiger-über-gras"),
        ("dog.mp4", "../../etc", "outputs/dog-etc"),
        ("dog.mp4", "…", "outputs/dog"),
        ("*.png", "?", "outputs/edit"),
        ("dog.mp4", "tiger " * 100, "outputs/dog-" + "-".join(["tiger"] * 13) + "-ti"),
    ],
)
def test_the_output_folder_is_named_after_clip_and_prompt(clip: str, prompt: str, folder: str) -> None:
    assert output_folder(clip, prompt) == folder
