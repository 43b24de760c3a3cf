"""The JSON Schema of configuration files, by which editors complete and check them. Knows only the configuration."""

from typing import Any

from tokenflow.config import Config

REFERENCE = {"type": "string", "pattern": r"\$\{"}
"""What may stand for any value: `${…}`, with or without other letters around it."""

_SAID_OUTSIDE = {"title", "description", "default"}


def file_schema() -> dict[str, Any]:
    """The schema of a file, of which less is asked than of the whole.

    A file may name others in `extends:`, leave to them what is required, and refer to values with `${…}`.
    """
    whole = Config.model_json_schema()
    sections = {name: _of_a_part(section) for name, section in whole.pop("$defs").items()}
    name = {"type": "string"}
    extends = {
        "description": "A file, or a list of files, whose settings hold where this one says nothing; named from here.",
        "anyOf": [name, {"type": "array", "items": name}],
    }
    part = _of_a_part(whole)
    properties = {"extends": extends, **part.pop("properties")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **part,
        "properties": properties,
        "$defs": sections,
    }


def _of_a_part(section: dict[str, Any]) -> dict[str, Any]:
    """A section of which nothing is required, and whose values may be references."""
    properties = {name: _or_reference(setting) for name, setting in section["properties"].items()}
    return {key: value for key, value in section.items() if key != "required"} | {"properties": properties}


def _or_reference(setting: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in setting:  # a section of its own
        return setting
    outside = {key: value for key, value in setting.items() if key in _SAID_OUTSIDE}
    inside = {key: value for key, value in setting.items() if key not in _SAID_OUTSIDE}
    return {**outside, "anyOf": [*inside.get("anyOf", [inside]), REFERENCE]}
