"""The JSON Schema accepts what the loader accepts, and describes every setting."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tokenflow.config import Config, load_config
from tokenflow.config.schema import file_schema
from tokenflow.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
VALIDATOR = jsonschema.Draft202012Validator(file_schema())
MINIMAL: dict[str, Any] = {
    "clip": {"path": "clip.mp4", "prompt": "a dog"},
    "model": {"path": "model"},
    "edit": {"prompt": "a tiger"},
    "output": {"dir": "out"},
}


def test_it_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(file_schema())
    assert json.loads(json.dumps(file_schema())) == file_schema()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


def test_a_saved_config_is_valid() -> None:
    VALIDATOR.validate(yaml.safe_load(Config.model_validate(MINIMAL).to_yaml()))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"extends": "base.yaml"},
        {"extends": ["a.yaml", "b.yaml"], "edit": {"seed": 3}},
        {"edit": {"steps": "${inversion.steps}", "prompt": "${clip.prompt} of gold"}},
        {"clip": {"size": [640, 480]}},
        {"clip": {"size": None}},
        {"edit": {"carried_until": 0.5, "guidance": "carried"}},
    ],
)
def test_it_accepts_partial_files_references_and_former_names(content: dict[str, Any]) -> None:
    VALIDATOR.validate(content)


@pytest.mark.parametrize(
    "wrong",
    [
        {"edit": {"promt": "x"}},
        {"edit": {"steps": -1}},
        {"edit": {"steps": "many"}},
        {"edit": {"mode": "magic"}},
        {"edit": {"seed": -1}},
        {"edit": {"pnp": {"features_until": 2}}},
        {"clip": {"size": 3}},
        {"clip": {"size": [640]}},
        {"output": {"container": "avi"}},
        {"unheard": 1},
    ],
)
def test_it_refuses_what_the_loader_refuses(wrong: dict[str, Any], tmp_path: Path) -> None:
    assert not VALIDATOR.is_valid(wrong)
    path = tmp_path / "wrong.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                name: {**MINIMAL.get(name, {}), **part} if isinstance(part, dict) else part
                for name, part in {**MINIMAL, **wrong}.items()
            }
        )
    )
    with pytest.raises(ConfigError):
        load_config(path, environment={})


def test_it_has_every_setting_and_no_other_that_is_not_deprecated() -> None:
    schema = file_schema()
    for name, setting in Config.model_fields.items():
        section: Any = setting.annotation
        if not hasattr(section, "model_fields"):
            assert name in schema["properties"]
            continue
        properties = schema["$defs"][section.__name__]["properties"]
        assert {key for key, each in properties.items() if "deprecated" not in each} == set(section.model_fields), name


def test_a_former_name_is_deprecated_and_constrained_as_the_present_one() -> None:
    properties = file_schema()["$defs"]["Edit"]["properties"]
    former = properties["carried_until"]
    assert former["description"] == "Former name of edit.propagate_edit_until."
    assert former["anyOf"] == properties["propagate_edit_until"]["anyOf"]
    assert not VALIDATOR.is_valid({"edit": {"carried_until": 2}})
