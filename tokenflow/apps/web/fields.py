"""A field for each setting, made from the schema: its name, range, default and description."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr

from tokenflow.apps.web.region_fields import DEFAULTS, FEATHER, GROW, LISTED, MASK, REGIONS, WORDS
from tokenflow.config import Config
from tokenflow.config.reference import SettingReference, all_settings
from tokenflow.config.suggestions import annotation

UNIONS = (Union, UnionType)

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
    REGIONS: "What may change",
    WORDS: "Words",
    MASK: "Mask",
    LISTED: "Regions",
    GROW: "Pixels by which it grows",
    FEATHER: "Pixels over which it fades",
    "preset": "Speed",
    "edit.keyframes.frames": "Edited frames",
    "edit.references": "References",
    "model.path": "Model",
}
"""Names of the fields that everyone sees; the others have the setting's own."""

CHOICES = {
    "edit.mode": (
        ("Layout, shapes and poses (pnp)", "pnp"),
        ("Rough layout and colours (sdedit)", "sdedit"),
        ("Outlines (controlnet)", "controlnet"),
        ("What both sentences say, without inversion (flowedit)", "flowedit"),
        ("Motion: frames edited elsewhere (keyframes)", "keyframes"),
        ("What an instruction leaves (instruct)", "instruct"),
    ),
    "preset": (("Standard: 25 steps", "standard"), ("Fast: 8 steps", "fast")),
    REGIONS: (
        ("The whole frame", ""),
        ("Where the prompt changes something (auto)", "auto"),
        ("Where these words are", "words"),
        ("A painted part", "painted"),
        ("A mask file", "mask"),
        ("Several regions", "list"),
    ),
}
"""Words for the choices that everyone sees."""

HINTS = {
    "clip.prompt": "One sentence, such as: a dog on grass, 3d style",
    "edit.prompt": "The same sentence with some words replaced; or an instruction, where that is chosen below",
    "clip.start": "0 for the beginning",
    "clip.frames": "Empty for all",
    "clip.every": "2 halves the frame rate",
    "clip.size": "Shorter side; empty for the model's own",
    "edit.seed": "Another number, another draw",
    "edit.keyframes.frames": "What was put back, named after its number; or a folder, or {0: a.png, 23: b.png}",
    "edit.references": "What was uploaded; or a list such as [tiger.png] or [{path: style.png, kind: style}]",
    "model.path": "",
    "preset": "",
    "edit.mode": "",
    REGIONS: "All else keeps the pixels of the clip",
    WORDS: "Of what the clip shows, such as: dog; commas between several",
    MASK: "White where the clip may change: an image for all frames, or a clip with as many",
    LISTED: "As a list, such as [{words: dog}, {words: grass, prompt: snow}]",
    GROW: "Of the clip; negative shrinks it",
    FEATHER: "Of the clip, outside of it",
}
"""Short descriptions of the fields that everyone sees; the others have the setting's own."""


def sentence(key: str) -> Any:
    """A field for a sentence."""
    return gr.Textbox(label=LABELS[key], info=hint(key), lines=2, max_lines=4, elem_id=element(key))


def choice(key: str) -> Any:
    """A field with its choices in sight."""
    value, info = _value(key, ""), hint(key) or None
    return gr.Radio(list(CHOICES[key]), value=value, label=LABELS[key], info=info, elem_id=element(key))


def field(key: str, **options: Any) -> Any:
    """A field of the kind that fits a setting; left empty it means the default, which it shows."""
    default = DEFAULTS[key] if key in DEFAULTS else SETTINGS[key].default
    common = {"label": LABELS.get(key, key), "info": hint(key), "elem_id": element(key), **options}
    choices = choices_of(key)
    if choices:
        return gr.Dropdown([(f"default: {default}", ""), *((each, each) for each in choices)], value="", **common)
    is_said = key in HINTS and default == "null"  # what an empty field means
    return gr.Textbox(placeholder="" if is_said else default or "", max_lines=1, **common)


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
    offered = [each for _, each in CHOICES.get(key, ())]
    return SETTINGS[key].default if offered and value not in offered else value


def _description(setting: SettingReference) -> str:
    if choices_of(setting.key):
        return setting.description
    return f"{setting.values.replace('`', '')}. {setting.description}"


def choices_of(key: str) -> list[str]:
    """The values of a setting that has few, beside none; empty for the others."""
    kind = annotation(Config, key)
    kinds = [each for each in (get_args(kind) if get_origin(kind) in UNIONS else (kind,)) if each is not NoneType]
    if all(each is bool or get_origin(each) is Literal for each in kinds):
        return [str(value) for each in kinds for value in (("true", "false") if each is bool else get_args(each))]
    return []
