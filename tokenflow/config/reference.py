"""Every setting as text: what it accepts, its default and what it does, from the schema."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenflow.config.suggestions import Section

UNBOUNDED = 10**6
"""Maxima from here on only guard against typing errors and are not shown."""


@dataclass(frozen=True)
class SettingReference:
    """A setting as text.

    Attributes:
        key: dotted.
        values: what it accepts; words that are to be written as they are stand between backquotes.
        default: as it is written in a file; None if the setting is required.
        description: what it does.
    """

    key: str
    values: str
    default: str | None
    description: str


@dataclass(frozen=True)
class SectionReference:
    """A section as text, without the sections in it.

    Attributes:
        key: dotted; empty for the top level.
        description: one line.
        settings: its own.
    """

    key: str
    description: str
    settings: tuple[SettingReference, ...]


ITEM = "[]"
"""At the end of the key of a section that is an item of a list."""


def all_sections(settings: Section) -> Iterator[SectionReference]:
    """Every section with settings of its own, in the order of a file, and the items of lists."""
    schema = settings.model_json_schema()
    return _sections(schema, schema, "")


def all_settings(settings: Section) -> Iterator[SettingReference]:
    """Every setting that has a key of its own, in the order of a file."""
    for section in all_sections(settings):
        if not section.key.endswith(ITEM):
            yield from section.settings


def _sections(schema: dict[str, Any], section: dict[str, Any], key: str) -> Iterator[SectionReference]:
    """A section and those in it."""
    required = section.get("required", ())
    settings = tuple(
        SettingReference(
            f"{key}.{name}".lstrip("."),
            _values(each),
            None if name in required else _shown(each["default"]),
            each["description"],
        )
        for name, each in section["properties"].items()
        if "$ref" not in each
    )
    if settings:
        yield SectionReference(key, section["description"].partition("\n")[0], settings)
    for name, each in section["properties"].items():
        below = f"{key}.{name}".lstrip(".")
        if "$ref" in each:
            yield from _sections(schema, _definition(schema, each), below)
        for item in _item_sections(each):
            yield from _sections(schema, _definition(schema, item), f"{below}{ITEM}")


def _item_sections(setting: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """References to the sections that items of a list may be."""
    items = [kind["items"] for kind in setting.get("anyOf", [setting]) if "items" in kind]
    yield from (form for item in items for form in item.get("anyOf", [item]) if "$ref" in form)


def _definition(schema: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = schema["$defs"][reference["$ref"].rpartition("/")[2]]
    return section


def _shown(default: Any) -> str:
    """A default as it is written in a file."""
    return default if default and isinstance(default, str) else json.dumps(default)


def _values(setting: dict[str, Any]) -> str:
    """What a setting accepts, in words."""
    if "anyOf" in setting:
        return " or ".join(_values(each) for each in setting["anyOf"])
    if "const" in setting:
        return f"`{setting['const']}`"
    if "enum" in setting:
        return ", ".join(f"`{value}`" for value in setting["enum"])
    match setting["type"]:
        case "null":
            return "`null`"
        case "boolean":
            return "`true`, `false`"
        case "array" if "items" in setting:
            return f"a list of {_items(setting['items'])}"
        case "array":
            return f"[{', '.join(_values(each) for each in setting['prefixItems'])}]"
        case "string":
            return "path" if setting.get("format") == "path" else "text"
        case kind:
            return f"{kind}{_bounds(setting)}"


def _items(item: dict[str, Any]) -> str:
    """What a list may have in it, in words."""
    if "anyOf" in item:
        return " or ".join(_items(form) for form in item["anyOf"])
    return "sections" if "$ref" in item else _values(item)


def _bounds(setting: dict[str, Any]) -> str:
    """The range of a number."""
    low, above, high = (setting.get(each) for each in ("minimum", "exclusiveMinimum", "maximum"))
    if high is not None and high >= UNBOUNDED:
        high = None
    if low is not None and high is not None:
        return f" from {low} to {high}"
    bounds = {">": above, "≥": low, "≤": high}
    return ",".join(f" {sign} {bound}" for sign, bound in bounds.items() if bound is not None)
