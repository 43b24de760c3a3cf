from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import ValidationError

from tokenflow.config import Config, load_config
from tokenflow.errors import ConfigError, TokenflowError

CONFIGS = Path(__file__).parent.parent / "configs"
MINIMAL = """
clip: {path: clip.mp4, prompt: a dog}
model: {path: model}
edit: {prompt: a tiger}
output: {dir: out}
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def test_defaults_are_those_the_design_fixes(minimal: Path) -> None:
    config = load_config(minimal, environment={})
    assert config.inversion.steps == config.edit.steps == 25
    assert config.edit.mode == "pnp"
    assert config.edit.pnp.features_until == 0.8
    assert config.edit.pnp.attention_until == 0.5
    assert config.edit.propagation == "tokenflow"
    assert config.edit.correspondence == "flow"
    assert config.edit.keyframe_interval == 8


def test_the_command_line_is_stronger_than_the_environment_and_that_than_the_file(minimal: Path) -> None:
    environment = {"TOKENFLOW_EDIT__STEPS": "30", "TOKENFLOW_EDIT__SEED": "7", "PATH": "/bin"}
    config = load_config(minimal, ["edit.steps=40"], environment)
    assert config.edit.steps == 40
    assert config.edit.seed == 7
    assert config.edit.prompt == "a tiger"


def test_a_file_extends_others_and_its_own_keys_win(minimal: Path) -> None:
    other = minimal.with_name("other.yaml")
    other.write_text("extends: minimal.yaml\nedit: {prompt: a zebra, steps: 5}\n")
    third = minimal.with_name("third.yaml")
    third.write_text("extends: [other.yaml]\nedit: {steps: 25}\n")
    config = load_config(third, environment={})
    assert (config.edit.prompt, config.edit.steps, config.clip.prompt) == ("a zebra", 25, "a dog")


def test_files_that_extend_each_other_are_named(minimal: Path) -> None:
    minimal.write_text("extends: other.yaml")
    minimal.with_name("other.yaml").write_text("extends: minimal.yaml")
    with pytest.raises(ConfigError, match=r"in a circle: .*minimal\.yaml → .*other\.yaml → .*minimal\.yaml"):
        load_config(minimal, environment={})


def test_values_refer_to_other_values(minimal: Path) -> None:
    config = load_config(minimal, ["edit.prompt=${clip.prompt} of gold"], {})
    assert config.edit.prompt == "a dog of gold"


def test_all_mistakes_are_reported_at_once_with_their_keys(minimal: Path) -> None:
    wrong = ["edit.promt=x", "edit.steps=-1", "edit.mode=magic", "inversion.batch_size=many", "edit.guidance_scale=nan"]
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, wrong, {})
    message = str(caught.value)
    assert "edit.promt: unknown; did you mean edit.prompt?" in message
    for key in ("edit.steps", "edit.mode", "inversion.batch_size", "edit.guidance_scale"):
        assert f"{key}: " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("edit.pnp.features_until=1.5", "less than or equal to 1"),
        ("edit.sdedit.strength=0", "greater than 0"),
        ("edit.keyframe_window=1", "greater than or equal to 2"),
        ("edit.guidance_scale=0.5", "greater than or equal to 1"),
        ("clip.frames=0", "greater than or equal to 1"),
        ("edit=3", "edit: "),
        ("edit.prompt=${nowhere}", "nowhere"),
        ("steps", "key=value"),
        ("=3", "key=value"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(minimal: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(minimal, [override], {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "clip: [", "just words", "clip: {path: x}\n"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"wrong\.yaml"):
        load_config(path, environment={})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(tmp_path / "none.yaml")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_at_all_make_the_loader_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(TokenflowError):
        load_config(path, environment={})


def test_the_resolved_configuration_reads_back_as_itself(minimal: Path) -> None:
    config = load_config(minimal, ["edit.prompt=${clip.prompt}s", "edit.negative_prompt='a: b'"], {})
    again = minimal.with_name("again.yaml")
    again.write_text(config.to_yaml())
    assert load_config(again, environment={}) == config


def test_a_configuration_cannot_be_changed(minimal: Path) -> None:
    config = load_config(minimal, environment={})
    with pytest.raises(ValidationError):
        config.edit.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "path", sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "base.yaml"}), ids=lambda path: path.stem
)
def test_every_example_is_valid(path: Path) -> None:
    assert isinstance(load_config(path, environment={}), Config)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_keeps_to_the_schema_that_editors_complete_from(path: Path) -> None:
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    content.pop("extends", None)
    # A file may leave to those it extends what is required of the whole.
    partial = without_required(Config.model_json_schema())
    jsonschema.Draft202012Validator(partial).validate(content)


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    validator = jsonschema.Draft202012Validator(without_required(Config.model_json_schema()))
    for wrong in ({"edit": {"promt": "x"}}, {"edit": {"steps": -1}}, {"edit": {"mode": "magic"}}, {"foo": 1}):
        assert not validator.is_valid(wrong)


def without_required(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_required(value) for key, value in schema.items() if key != "required"}
    return [without_required(each) for each in schema] if isinstance(schema, list) else schema
