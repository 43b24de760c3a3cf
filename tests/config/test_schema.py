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


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(file_schema())
    assert json.loads(json.dumps(file_schema())) == file_schema()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_keeps_to_it_as_it_is_written(path: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


def test_a_resolved_configuration_keeps_to_it() -> None:
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
    ],
)
def test_it_takes_what_a_file_may_be(content: dict[str, Any]) -> None:
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


def test_every_setting_is_in_it() -> None:
    """Completion offers what the loader knows, by the same names."""
    schema = file_schema()
    for name, setting in Config.model_fields.items():
        section: Any = setting.annotation
        if not hasattr(section, "model_fields"):
            assert name in schema["properties"]
            continue
        assert set(schema["$defs"][section.__name__]["properties"]) == set(section.model_fields), name
