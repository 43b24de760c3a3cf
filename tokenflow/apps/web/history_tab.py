"""Every result on this machine: look at it, use its settings again, delete it."""

from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from tokenflow.apps.web.clips import thumbnail
from tokenflow.apps.web.fields import shown
from tokenflow.apps.web.form import to_values
from tokenflow.apps.web.imports import importing
from tokenflow.apps.web.mistakes import note_html
from tokenflow.apps.web.quirks import on
from tokenflow.apps.web.results import config_of, find_results, read_result
from tokenflow.apps.web.site import Site
from tokenflow.errors import TokenflowError

CHOOSE = "<p>Choose a result to look at it again, below.</p>"
NOTHING = "<p>No results yet. Edits of whole clips appear here.</p>"


def build(site: Site, tab: Any, result: Any, clip: Any, fields: dict[str, Any]) -> None:
    """The content of the tab and what happens in it.

    Args:
        site: of the page.
        tab: that is being filled.
        result: the state that holds the folder of the result that is shown.
        clip: the state that holds the clip's file.
        fields: all of them.
    """
    chosen, listed = gr.State(""), gr.State([])
    note = gr.HTML(elem_id="history-note")
    with gr.Row():
        reuse = gr.Button("Use its settings", interactive=False, min_width=140, elem_id="reuse")
        delete = gr.Button("Delete", interactive=False, min_width=140, elem_id="delete")
        confirm = gr.Button("Delete its files for good", variant="stop", visible=False, elem_id="confirm")
    gallery = gr.Gallery(
        label="Results, newest first",
        columns=5,
        fit_columns=False,
        height="auto",
        allow_preview=False,
        buttons=[],
        interactive=False,
        object_fit="cover",
        elem_id="history",
    )

    def refresh(request: gr.Request) -> list[Any]:
        shown, folders = _listed(site.of(request).space.outputs)
        return [CHOOSE if folders else NOTHING, shown, folders]

    def choose(folders: list[str], event: gr.SelectData) -> list[Any]:
        folder = folders[event.index]
        return [folder, folder, Markup("<p>{}</p>").format(folder), *_buttons(True)]

    def use(folder: str) -> list[Any]:
        found = read_result(Path(folder))
        if found is None:
            return [gr.skip()] * (2 + len(fields))
        config = config_of(found)
        missing = "" if config.clip.path.exists() else f" Its clip {config.clip.path} has gone; upload it."
        text = Markup("<p>The tab Edit has the settings of {} now.{}</p>").format(folder, missing)
        values = shown(fields, to_values(config, site.space))
        return [text, "" if missing else str(config.clip.path), *values]

    def remove(request: gr.Request, folder: str) -> list[Any]:
        with importing():
            from tokenflow.pipeline.output import delete_result

        try:
            if folder and Path(folder).resolve().parent == site.of(request).space.outputs.resolve():
                delete_result(Path(folder))
            text = str(Markup("<p>{} was deleted.</p>").format(folder))
        except TokenflowError as error:
            text = note_html(str(error))
        return ["", "", text, *_buttons(False), *_listed(site.of(request).space.outputs)]

    buttons = [reuse, delete, confirm]
    on(tab.select, refresh, [], [note, gallery, listed])
    on(gallery.select, choose, [listed], [chosen, result, note, *buttons])
    on(reuse.click, use, [chosen], [note, clip, *fields.values()])
    on(delete.click, lambda: gr.update(visible=True), [], [confirm])
    on(confirm.click, remove, [chosen], [chosen, result, note, *buttons, gallery, listed])


def _listed(outputs: Path) -> tuple[Any, list[str]]:
    """The gallery of all results, and their folders."""
    results = find_results(outputs)
    images = [(thumbnail(each.video), each.title) for each in results]
    return gr.update(value=images, visible=bool(images)), [str(each.folder) for each in results]


def _buttons(chosen: bool) -> list[Any]:
    return [gr.update(interactive=chosen), gr.update(interactive=chosen), gr.update(visible=False)]
