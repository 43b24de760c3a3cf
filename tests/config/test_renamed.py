"""Former names of settings and values work wherever settings are given, and are never written."""

from pathlib import Path

import pytest

from tests.config.test_config import MINIMAL
from tokenflow.batch import read_configs
from tokenflow.config import Config, Edit, load_config
from tokenflow.errors import ConfigError

EDIT = "edit: {prompt: a tiger"
BOTH = r"edit\.carried_until is the former name of edit\.propagate_edit_until, and both are given; keep edit\.prop"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edit.yaml"


def write(path: Path, settings: str = "") -> Path:
    path.write_text(MINIMAL.replace(EDIT, EDIT + settings))
    return path


def renamed(config: Config) -> tuple[float, str]:
    return config.edit.propagate_edit_until, config.edit.guidance


def test_former_names_work_in_files_in_the_environment_and_on_the_command_line(path: Path) -> None:
    assert renamed(load_config(write(path), environment={})) == (0.76, "propagated")
    assert renamed(load_config(write(path, ", carried_until: 0.2, guidance: carried"), environment={})) == (
        0.2,
        "propagated",
    )
    write(path, ", guidance: per_frame")
    environment = {"TOKENFLOW_EDIT__CARRIED_UNTIL": "0.3", "TOKENFLOW_EDIT__GUIDANCE": "carried"}
    assert renamed(load_config(path, environment=environment)) == (0.3, "propagated")
    assert renamed(load_config(path, ["edit.carried_until=0.4", "edit.guidance=carried"], {})) == (0.4, "propagated")
    assert renamed(load_config(path, ["edit={carried_until: 0.5, guidance: carried}"], {})) == (0.5, "propagated")


def test_precedence_is_the_same_under_both_names(path: Path) -> None:
    write(path.with_name("base.yaml"), ", propagate_edit_until: 0.1")
    path.write_text("extends: base.yaml\nedit: {carried_until: 0.2}")
    assert renamed(load_config(path, environment={}))[0] == 0.2
    environment = {"TOKENFLOW_EDIT__PROPAGATE_EDIT_UNTIL": "0.3"}
    assert renamed(load_config(path, environment=environment))[0] == 0.3
    assert renamed(load_config(path, ["edit.carried_until=0.4"], environment))[0] == 0.4
    environment = {"TOKENFLOW_EDIT__CARRIED_UNTIL": "0.3"}
    assert renamed(load_config(path, ["edit.propagate_edit_until=0.4"], environment))[0] == 0.4


def test_former_names_work_in_sections_that_are_referred_to(path: Path) -> None:
    path.write_text(MINIMAL.replace(EDIT + "}", "edit: ${words.edit}"))
    with path.open("a") as file:
        file.write("words: {edit: {prompt: a tiger, carried_until: 0.2, guidance: '${words.how}'}, how: carried}")
    assert renamed(load_config(path, environment={})) == (0.2, "propagated")


def test_former_names_work_in_batches(path: Path) -> None:
    path.write_text(
        "clips: {dog: {path: dog.mp4, prompt: a dog}}\n"
        "edits: {tiger: {prompt: a tiger, carried_until: 0.2}, zebra: {prompt: a zebra}}\n"
        "edit: {propagate_edit_until: 0.5, guidance: carried}\n"
        "model: {path: model}\n"
    )
    assert [renamed(each) for each in read_configs([str(path)])] == [(0.2, "propagated"), (0.5, "propagated")]


def test_both_names_at_once_are_refused_and_named(path: Path) -> None:
    both = {"TOKENFLOW_EDIT__CARRIED_UNTIL": "0.3", "TOKENFLOW_EDIT__PROPAGATE_EDIT_UNTIL": "0.3"}
    with pytest.raises(ConfigError, match=BOTH):
        load_config(write(path), environment=both)
    with pytest.raises(ConfigError, match=BOTH):
        load_config(path, ["edit.carried_until=0.5", "edit.propagate_edit_until=0.5"], {})
    with pytest.raises(ConfigError, match=rf"edit\.yaml: {BOTH}"):
        load_config(write(path, ", carried_until: 0.2, propagate_edit_until: 0.2"), environment={})


def test_a_mistake_names_both_names(path: Path) -> None:
    message = r"edit\.propagate_edit_until \(formerly edit\.carried_until\): expected a number .*, got 2$"
    with pytest.raises(ConfigError, match=message):
        load_config(write(path, ", carried_until: 2"), environment={})
    with pytest.raises(ConfigError, match=r"expected 'propagated' or 'per_frame', got 'carred'"):
        load_config(write(path, ", guidance: carred"), environment={})


def test_a_misspelt_variable_of_a_former_name_is_reported(path: Path) -> None:
    with pytest.raises(ConfigError, match="write TOKENFLOW_EDIT__CARRIED_UNTIL"):
        load_config(write(path), environment={"TOKENFLOW_EDIT_CARRIED_UNTIL": "0.3"})


def test_only_present_names_are_written(path: Path) -> None:
    text = load_config(write(path, ", carried_until: 0.2, guidance: carried"), environment={}).to_yaml()
    assert "carried" not in text
    assert "carried" not in str(Edit(prompt="a tiger"))
