"""All other settings, folded, from the schema; the whole configuration as YAML, and the command that does the same."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import gradio as gr

from tokenflow.apps.web.fields import field, shown
from tokenflow.apps.web.form import command, from_yaml, to_values
from tokenflow.apps.web.mistakes import note_html
from tokenflow.apps.web.quirks import on
from tokenflow.apps.web.site import Site
from tokenflow.errors import ConfigError

TITLES = {
    "clip": "Clip",
    "model": "Model",
    "inversion": "Inversion",
    "edit": "Edit",
    "edit.pnp": "Edit: Plug-and-Play",
    "edit.sdedit": "Edit: SDEdit",
    "edit.controlnet": "Edit: ControlNet",
    "edit.flowedit": "Edit: FlowEdit",
    "edit.keyframes": "Edit: frames edited elsewhere",
    "edit.instruct": "Edit: instructions",
    "output": "Result",
    "metrics": "Figures",
}
"""Titles of the sections."""


def build(site: Site, apart: set[str]) -> dict[str, Any]:
    """A field for every setting that has none yet, by its key.

    Args:
        site: of the page.
        apart: settings that have a field elsewhere.
    """
    fields: dict[str, Any] = {}
    others = [key for key in site.keys if key not in apart]
    gr.HTML("<p>Every setting that the tab Edit does not show. An empty field means the default, which it names.</p>")
    for section, group in groupby(others, lambda key: key.rpartition(".")[0]):
        with gr.Accordion(TITLES.get(section, section), open=False), gr.Row():
            fields |= {key: field(key, min_width=280) for key in group}
    return fields


def build_yaml(site: Site, tab: Any, clip: Any, fields: dict[str, Any]) -> None:
    """The configuration as text, in and out.

    Args:
        site: of the page.
        tab: that is being filled.
        clip: the state that holds the clip's file.
        fields: all of them.
    """
    with gr.Accordion("All settings as text: to keep, to share, to load", open=True, elem_id="yaml"):
        note = gr.HTML(elem_id="yaml-note")
        plain = {"show_line_numbers": False, "wrap_lines": True}
        line = gr.Code(language="shell", label="As a command", interactive=False, elem_id="command", **plain)
        text = gr.Code(language="yaml", label="As YAML", max_lines=24, interactive=True, elem_id="yaml-text", **plain)
        with gr.Row():
            refresh = gr.Button("Show the form as text", min_width=140, elem_id="yaml-out")
            load = gr.Button("Fill the form from the YAML", min_width=140, elem_id="yaml-in")

    def export(request: gr.Request, file: str, *values: str) -> list[Any]:
        try:
            config = site.of(request).config(dict(zip(fields, values, strict=True)), file)
        except ConfigError as error:
            return ["", gr.skip(), note_html(str(error))]
        return [command(config), config.to_yaml(), ""]

    on(tab.select, export, [clip, *fields.values()], [line, text, note])
    on(refresh.click, export, [clip, *fields.values()], [line, text, note])
    on(load.click, _importer(site, fields), [text, clip], [note, clip, *fields.values()])


def _importer(site: Site, fields: dict[str, Any]) -> Callable[[gr.Request, str, str], list[Any]]:
    """A function that fills the form from YAML; the clip stays where the text names none."""

    def read(request: gr.Request, text: str, clip: str) -> list[Any]:
        own = site.of(request)
        try:
            config, named = from_yaml(text, own.space)
            if named:
                own.check_clip(Path(named))
            own.check_model(config.model.path)
            own.check_edit(config.edit)
        except ConfigError as error:
            return [note_html(str(error)), *[gr.skip()] * (1 + len(fields))]
        return ["<p>The form has these settings now.</p>", named or clip, *shown(fields, to_values(config, site.space))]

    return read
