"""The JSON Schema of configuration files, for completion and validation in editors."""

from typing import Any

from tokenflow.config import Config
from tokenflow.config.renamed import RENAMED_KEYS, RENAMED_VALUES

REFERENCE = {"type": "string", "pattern": r"\$\{"}
"""Accepted in place of any value: a string that contains `${…}`."""

_ANNOTATIONS = {"title", "description", "default"}


def file_schema() -> dict[str, Any]:
    """The schema of one file, which may leave out more than a whole configuration.

    A file may name others in `extends:`, leave required settings to them, refer to values with `${…}`, and use former
    names, which are marked as deprecated.
    """
    whole = Config.model_json_schema()
    sections = {name: _partial(section) for name, section in whole.pop("$defs").items()}
    name = {"type": "string"}
    extends = {
        "description": "A file, or a list of files, whose settings hold unless this one overrides them. Paths are "
        "relative to this file.",
        "anyOf": [name, {"type": "array", "items": name}],
    }
    part = _partial(whole)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **part,
        "properties": {"extends": extends, **part["properties"]},
        "$defs": sections,
    }
    _add_former_names(schema)
    return schema


def _partial(section: dict[str, Any]) -> dict[str, Any]:
    """A section in which nothing is required and any value may be a reference."""
    properties = {name: _or_reference(setting) for name, setting in section["properties"].items()}
    return {key: value for key, value in section.items() if key != "required"} | {"properties": properties}


def _or_reference(setting: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in setting:  # a section of its own
        return setting
    annotations = {key: value for key, value in setting.items() if key in _ANNOTATIONS}
    kind = {key: value for key, value in setting.items() if key not in _ANNOTATIONS}
    return {**annotations, "anyOf": [*kind.get("anyOf", [kind]), REFERENCE]}


def _add_former_names(schema: dict[str, Any]) -> None:
    for key, values in RENAMED_VALUES.items():
        section, name = _find(schema, key)
        section[name]["anyOf"].append({"enum": list(values), "deprecated": True})
    for former, key in RENAMED_KEYS.items():
        section, name = _find(schema, key)
        description = f"Former name of {key}."
        section[former.rpartition(".")[2]] = section[name] | {"description": description, "deprecated": True}


def _find(schema: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The properties of the section that holds a setting, and the setting's name in it."""
    *sections, name = key.split(".")
    properties = schema["properties"]
    for section in sections:
        properties = schema["$defs"][properties[section]["$ref"].rpartition("/")[2]]["properties"]
    return properties, name
