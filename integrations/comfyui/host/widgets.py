"""Widgets from the library's settings, and values for the library from widgets.

A setting that may be null has a widget whose zero, empty text or `auto` stands for it, since a widget is never empty.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from comfy_api.latest import io
from pydantic import BaseModel

from .wording import MODES

AUTO, YES, NO = "auto", "yes", "no"

MAX_INT = 10**9
MAX_SEED = 2**63 - 1
MAX_FLOAT = 1e6

SECTION = re.compile(r"\b(model|inversion|edit)\.(?=\w)")
"""Of the name of a setting, as texts of the library give it."""

FLOAT_STEP = 0.01
"""By which the arrows of a widget change it."""


def widget(section: type[BaseModel], name: str, **changes: Any) -> io.Input:
    """The widget of a setting: its type, bounds, default and description.

    Args:
        section: of the library's settings.
        name: of the setting.
        changes: options of the widget in place of those that follow from the setting.
    """
    described = _described(section, name)
    kinds = described.get("anyOf", [described])
    kind = next(each for each in kinds if each.get("type") != "null")
    nullable = len(kinds) > 1
    tooltip = as_tooltip(described["description"])
    options = {"default": described.get("default"), "tooltip": tooltip} | changes
    return _BUILDERS[_kind(kind)](name, kind, nullable, options)


def as_tooltip(text: str) -> str:
    """A description of the library, with the names of widgets and nodes: `edit.seed` becomes `seed`."""
    text = SECTION.sub("", text)
    return re.sub(r"\b(pnp|sdedit)\b", lambda found: MODES[found[1]].removeprefix("Mode: "), text)


def settings(section: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of settings from those of their widgets."""
    return {name: _setting(_described(section, name), value) for name, value in given.items()}


def _described(section: type[BaseModel], name: str) -> dict[str, Any]:
    """A setting's JSON Schema."""
    described: dict[str, Any] = _json_schema(section)["properties"][name]
    return described


@cache
def _json_schema(section: type[BaseModel]) -> dict[str, Any]:
    """Asked for by every widget whenever ComfyUI looks at a node."""
    return section.model_json_schema()


def _kind(kind: Mapping[str, Any]) -> str:
    return "enum" if "enum" in kind else str(kind.get("type"))


def _setting(described: Mapping[str, Any], value: Any) -> Any:
    kinds = described.get("anyOf", [described])
    if len(kinds) == 1:
        return value
    if value in (0, "", AUTO) and not isinstance(value, bool):
        return None
    return value == YES if any(each.get("type") == "boolean" for each in kinds) else value


def _with_null(options: Mapping[str, Any], nullable: bool, null: Any, word: str) -> dict[str, Any]:
    """Options with what stands for null as the default, and named so in the tooltip."""
    if not nullable:
        return dict(options)
    default = null if options["default"] is None else options["default"]
    return {**options, "default": default, "tooltip": re.sub(r"\bnull\b", word, options["tooltip"])}


def _boolean(name: str, kind: Mapping[str, Any], nullable: bool, options: Mapping[str, Any]) -> io.Input:
    if nullable:
        return io.Combo.Input(name, options=[AUTO, YES, NO], **_with_null(options, True, AUTO, AUTO))
    return io.Boolean.Input(name, **options)


def _choice(name: str, kind: Mapping[str, Any], nullable: bool, options: Mapping[str, Any]) -> io.Input:
    choices = [AUTO, *kind["enum"]] if nullable else kind["enum"]
    return io.Combo.Input(name, options=choices, **_with_null(options, nullable, AUTO, AUTO))


def _integer(name: str, kind: Mapping[str, Any], nullable: bool, options: Mapping[str, Any]) -> io.Input:
    low = 0 if nullable else kind.get("minimum", -MAX_INT)
    bounds = {"min": low, "max": min(kind.get("maximum", MAX_INT), MAX_SEED)}
    return io.Int.Input(name, **bounds | _with_null(options, nullable, 0, "0"))


def _number(name: str, kind: Mapping[str, Any], nullable: bool, options: Mapping[str, Any]) -> io.Input:
    low = kind.get("minimum", kind.get("exclusiveMinimum", -MAX_FLOAT - FLOAT_STEP) + FLOAT_STEP)
    bounds = {"min": float(low), "max": float(kind.get("maximum", MAX_FLOAT)), "step": FLOAT_STEP}
    return io.Float.Input(name, **bounds | _with_null(options, nullable, 0.0, "0"))


def _text(name: str, kind: Mapping[str, Any], nullable: bool, options: Mapping[str, Any]) -> io.Input:
    return io.String.Input(name, **_with_null(options, nullable, "", "empty"))


_BUILDERS = {"boolean": _boolean, "enum": _choice, "integer": _integer, "number": _number, "string": _text}
