"""Write docs/settings.md, the reference of all settings, from the schema of `Config`.

    python -m tools.settings_reference

`make docs` runs this. A test checks that the committed file is up to date.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenflow.config import Config
from tokenflow.config.renamed import RENAMED_KEYS, RENAMED_VALUES

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

UNBOUNDED = 10**6
"""Maxima from here on only guard against typing errors and are not shown."""

INTRODUCTION = """\
# Settings

All settings of a configuration file, by section. The same keys work on the command line and in the environment:

    tokenflow edit my_edit.yaml edit.steps=50 "edit.prompt=a wolf made of ice"
    TOKENFLOW_EDIT__STEPS=50 tokenflow edit my_edit.yaml

The command line overrides the environment, which overrides the file, which overrides those it names in `extends:`.
Relative paths start at the working directory, those in `extends:` at the file; `~` is the home directory. Any value can
refer to another as `${clip.prompt}`. `tokenflow config my_edit.yaml` prints the result, and `tokenflow schema` the JSON
Schema by which editors complete and check such files.

This page is generated from `tokenflow/config/settings.py` by `make docs`.
"""


def document() -> str:
    """The whole page, in Markdown."""
    schema = Config.model_json_schema()
    parts = [INTRODUCTION, *_sections(schema, schema, ""), _former_names()]
    return "\n".join(parts)


def _sections(schema: dict[str, Any], section: dict[str, Any], key: str) -> Iterator[str]:
    """A section and those in it, each as a heading, an introduction and a table."""
    settings = {name: each for name, each in section["properties"].items() if "$ref" not in each}
    if settings:
        introduction = section["description"].partition("\n")[0]
        yield f"## {f'`{key}`' if key else 'Top level'}\n\n{introduction}\n"
        yield _table(settings, key, section.get("required", ()))
    for name, each in section["properties"].items():
        if "$ref" in each:
            yield from _sections(schema, schema["$defs"][each["$ref"].rpartition("/")[2]], f"{key}.{name}".lstrip("."))


def _table(settings: dict[str, Any], section: str, required: list[str]) -> str:
    rows = ["| setting | values | default | what it does |", "|---|---|---|---|"]
    for name, setting in settings.items():
        key = f"{section}.{name}".lstrip(".")
        default = "required" if name in required else f"`{_shown(setting['default'])}`"
        description = setting["description"].replace("|", r"\|")
        rows.append(f"| `{key}` | {_values(setting)} | {default} | {description} |")
    return "\n".join(rows) + "\n"


def _shown(default: Any) -> str:
    """A default as it is written in a file."""
    return default if default and isinstance(default, str) else json.dumps(default)


def _values(setting: dict[str, Any]) -> str:
    """What a setting accepts, in words."""
    if "anyOf" in setting:
        return " or ".join(_values(each) for each in setting["anyOf"])
    if "enum" in setting:
        return ", ".join(f"`{value}`" for value in setting["enum"])
    match setting["type"]:
        case "null":
            return "`null`"
        case "boolean":
            return "`true`, `false`"
        case "array":
            return f"[{', '.join(_values(each) for each in setting['prefixItems'])}]"
        case "string":
            return "path" if setting.get("format") == "path" else "text"
        case kind:
            return f"{kind}{_bounds(setting)}"


def _bounds(setting: dict[str, Any]) -> str:
    """The range of a number."""
    low, above, high = (setting.get(each) for each in ("minimum", "exclusiveMinimum", "maximum"))
    if high is not None and high >= UNBOUNDED:
        high = None
    if low is not None and high is not None:
        return f" from {low} to {high}"
    bounds = {">": above, "≥": low, "≤": high}
    return ",".join(f" {sign} {bound}" for sign, bound in bounds.items() if bound is not None)


def _former_names() -> str:
    keys = [f"- `{former}` is `{key}`" for former, key in RENAMED_KEYS.items()]
    values = [
        f"- `{key}: {former}` is `{key}: {value}`"
        for key, renamed in RENAMED_VALUES.items()
        for former, value in renamed.items()
    ]
    return "\n".join(["## Former names\n\nStill accepted:\n", *keys, *values]) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8", newline="\n")
