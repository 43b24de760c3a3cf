"""A field for each setting, made from the schema: its name, range, default and description."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import gradio as gr

from tokenflow.config import Config
from tokenflow.config.reference import SettingReference, all_settings
from tokenflow.config.suggestions import annotation

SETTINGS = {setting.key: setting for setting in all_settings(Config)}

LABELS = {
    "clip.prompt": "What the clip shows",
    "clip.start": "Start at second",
    "clip.frames": "Number of frames",
    "clip.every": "Every n-th frame",
    "clip.size": "Working size in pixels",
    "edit.prompt": "What it should show",
    "edit.mode": "What to keep",
    "edit.seed": "Seed",
    "preset": "Speed",
    "edit.keyframes.frames": "Edited frames",
    "model.path": "Model",
}
"""Names of the fields that everyone sees; the others have the setting's own."""

CHOICES = {
    "edit.mode": (
        ("Layout, shapes and poses (pnp)", "pnp"),
        ("Rough layout and colours (sdedit)", "sdedit"),
        ("Outlines (controlnet)", "controlnet"),
        ("Motion: frames edited elsewhere (keyframes)", "keyframes"),
    ),
    "preset": (("Standard: 25 steps", "standard"), ("Fast: 8 steps", "fast")),
}
"""Words for the choices that everyone sees."""

HINTS = {
    "clip.prompt": "One sentence, such as: a dog on grass, 3d style",
    "edit.prompt": "The same sentence with some words replaced",
    "clip.start": "0 for the beginning",
    "clip.frames": "Empty for all",
    "clip.every": "2 halves the frame rate",
    "clip.size": "Shorter side; empty for the model's own",
    "edit.seed": "Another number, another draw",
    "edit.keyframes.frames": "What was put back, named after its number; or a folder, or {0: a.png, 23: b.png}",
    "model.path": "One of those listed",
    "preset": "",
    "edit.mode": "",
}
"""Short descriptions of the fields that everyone sees; the others have the setting's own."""


def sentence(key: str) -> Any:
    """A field for a sentence."""
    return gr.Textbox(label=LABELS[key], info=hint(key), lines=2, max_lines=4, elem_id=element(key))


def choice(key: str) -> Any:
    """A field with its choices in sight."""
    default = SETTINGS[key].default
    return gr.Radio(list(CHOICES[key]), value=default, label=LABELS[key], info=hint(key) or None, elem_id=element(key))


def field(key: str, **options: Any) -> Any:
    """A field of the kind that fits a setting; left empty it means the default, which it shows."""
    setting = SETTINGS[key]
    common = {"label": LABELS.get(key, key), "info": hint(key), "elem_id": element(key), **options}
    choices = _choices(key)
    if choices:
        return gr.Dropdown([(f"default: {setting.default}", ""), *choices], value="", **common)
    is_said = key in HINTS and setting.default == "null"  # what an empty field means
    return gr.Textbox(placeholder="" if is_said else setting.default or "", max_lines=1, **common)


def hint(key: str) -> str:
    """What a field is for."""
    return HINTS[key] if key in HINTS else _description(SETTINGS[key])


def element(key: str) -> str:
    """The id of a field in the page."""
    return f"setting-{key.replace('.', '-').replace('_', '-')}"


def shown(fields: Mapping[str, Any], values: Mapping[str, str]) -> list[Any]:
    """Updates that put values into all fields; a choice that everyone sees is never empty."""
    return [gr.update(value=_value(key, values[key])) for key in fields]


def marked(fields: Mapping[str, Any], mistakes: Mapping[str, str]) -> list[Any]:
    """Updates that show each mistake beside its field, and what the field is for at all others."""
    return [
        gr.update(info=f"✖ {mistakes[key]}", elem_classes=["tf-wrong"])
        if key in mistakes
        else gr.update(info=component.info, elem_classes=[])
        for key, component in fields.items()
    ]


def _value(key: str, value: str) -> str | None:
    return value or SETTINGS[key].default if key in CHOICES else value


def _description(setting: SettingReference) -> str:
    return f"{setting.values.replace('`', '')}. {setting.description}"


def _choices(key: str) -> list[tuple[str, str]]:
    """The values of a setting that has few; none for the others."""
    kind = annotation(Config, key)
    if kind is bool:
        return [("true", "true"), ("false", "false")]
    return [(str(each), str(each)) for each in get_args(kind)] if get_origin(kind) is Literal else []
