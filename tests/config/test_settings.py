"""The settings as values: described, bounded, and usable from Python."""

from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from tokenflow.config import Config, ControlNet, PnP, resolve
from tokenflow.config.suggestions import all_keys, annotation, is_section
from tokenflow.errors import ConfigError


def settings(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and field of each setting that is not a section."""
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            yield from settings(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


@pytest.mark.parametrize("key", dict(settings()))
def test_every_setting_has_a_description(key: str) -> None:
    description = dict(settings())[key].description
    assert description
    assert description.endswith(".")


def test_every_section_has_a_description() -> None:
    sections = [kind for key in all_keys(Config) if is_section(kind := annotation(Config, key))]
    assert all(kind.__doc__ for kind in [Config, *sections])


def test_a_section_is_a_value_in_python() -> None:
    assert PnP(features_until=0.5) == PnP(features_until=0.5, attention_until=0.8)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        PnP(attention_until=1.5)
    with pytest.raises(ValidationError, match=r"start \(0\.5\) no later than end \(0\.2\)"):
        ControlNet(start=0.5, end=0.2)


def test_all_parts_of_a_run_are_on_by_default() -> None:
    config = Config.model_validate(
        {
            "clip": {"path": "clip.mp4", "prompt": "a dog"},
            "model": {"path": "model"},
            "edit": {"prompt": "a tiger"},
            "output": {"dir": "out"},
        }
    )
    assert config.inversion.check
    assert config.metrics.enabled
    assert config.output.comparison
    assert config.output.contact_sheet
    assert config.output.page
    assert config.model.revision is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("edit: {controlnet: {canny_thresholds: [1]}}", r"edit\.controlnet\.canny_thresholds: expected two numbers"),
        ("edit: {controlnet: {canny_thresholds: [1, .inf]}}", r"canny_thresholds: expected two numbers"),
        ("edit: {controlnet: {also: [{detector: depth}]}}", r"edit\.controlnet\.also\.0\.path: missing; set edit"),
        ("model: {loras: [{path: a, strength: 1}]}", r"strength: unknown; model\.loras\.0 has path, scale, triggers"),
    ],
)
def test_a_wrong_item_of_a_list_is_explained(settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(OmegaConf.create(settings), environment={}, name="settings")
