"""Edited keyframes: frames to take out of the clip, and where they are put back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from tokenflow.apps.web.edited_frames import keep_images, take_out, thumbnails
from tokenflow.apps.web.fields import field
from tokenflow.apps.web.form import EDITED_FRAMES, WHICH_FRAMES, to_clip, to_edit
from tokenflow.apps.web.mistakes import by_field, note_html
from tokenflow.apps.web.quirks import on
from tokenflow.apps.web.site import Site
from tokenflow.errors import TokenflowError

OTHER_NUMBERS = (
    "<p role=status>Another part of the clip has other frame numbers than the edited frames were named after. Take "
    "frames out again, or check their numbers.</p>"
)


@dataclass(frozen=True)
class KeyframesPanel:
    """The components that others refer to.

    Attributes:
        panel: all of it.
        numbers: of the frames to take out.
        take: takes them out.
        taken: their files.
        note: what is wrong.
        upload: the edited frames as they are uploaded.
        given: the setting that names them.
        shown: the edited frames.
    """

    panel: Any
    numbers: Any
    take: Any
    taken: Any
    note: Any
    upload: Any
    given: Any
    shown: Any


def build(site: Site) -> KeyframesPanel:
    """The panel; `connect` makes it work."""
    with gr.Column(visible=False, elem_id="keyframes") as panel:
        numbers = gr.Textbox(
            label="Frames to take out",
            info="Counted from 0, such as 0,12,23; empty for the first and the last",
            max_lines=1,
            elem_id="numbers",
        )
        take = gr.Button("Take out", elem_id="take")
        taken = gr.File(
            label="Edit them anywhere", file_count="multiple", interactive=False, visible=False, elem_id="taken"
        )
        upload = gr.File(
            label="Put them back",
            file_count="multiple",
            file_types=["image"],
            height=150,
            elem_id="put-back",
        )
        note = gr.HTML(elem_id="keyframes-note")
        given = field(EDITED_FRAMES, interactive=site.space.is_local)
        shown = gr.Gallery(
            label="What was put back",
            columns=3,
            height="auto",
            allow_preview=False,
            buttons=[],
            interactive=False,
            visible=False,
            elem_id="given",
        )
    return KeyframesPanel(panel, numbers, take, taken, note, upload, given, shown)


def connect(site: Site, keyframes: KeyframesPanel, clip: Any, fields: dict[str, Any]) -> None:
    """What happens in the panel.

    Args:
        site: of the page.
        keyframes: the panel.
        clip: the state that holds the clip's file.
        fields: all of them.
    """
    of_clip = {key: component for key, component in fields.items() if key.startswith("clip.")}
    of_part = [fields[key] for key in WHICH_FRAMES if key in fields]
    numbered = gr.State(())

    def take(request: gr.Request, file: str, numbers: str, *values: str) -> Any:
        try:
            chosen = to_clip(dict(zip(of_clip, values, strict=True)), file)
            site.of(request).check_clip(chosen.path)
            return gr.update(value=take_out(chosen, numbers), visible=True), ""
        except Exception as error:
            return gr.update(visible=False), _said(error)

    def keep_images_of(request: gr.Request, uploads: list[str] | None) -> Any:
        if not uploads:
            return "", ""
        try:
            return str(keep_images([Path(upload) for upload in uploads], site.of(request).space)), ""
        except Exception as error:
            return gr.skip(), _said(error)

    def show_given(request: gr.Request, given: str) -> Any:
        if not given:
            return gr.update(value=[], visible=False)
        try:
            edit = to_edit({EDITED_FRAMES: given})
            site.of(request).check_edit(edit)
            images = thumbnails(edit)
        except (TokenflowError, OSError):  # told when the edit is started
            images = []
        return gr.update(value=images, visible=bool(images))

    def check_numbers(given: str, before: tuple[str, ...], *part: str) -> Any:
        return OTHER_NUMBERS if given and part != before else ""

    for event in [event for each in of_part for event in (each.blur, each.submit)]:
        on(event, check_numbers, [keyframes.given, numbered, *of_part], [keyframes.note])
    on(keyframes.given.change, lambda *part: part, of_part, [numbered])
    on(keyframes.take.click, take, [clip, keyframes.numbers, *of_clip.values()], [keyframes.taken, keyframes.note])
    on(keyframes.upload.change, keep_images_of, [keyframes.upload], [keyframes.given, keyframes.note])
    on(keyframes.given.change, show_given, [keyframes.given], [keyframes.shown])


def _said(error: Exception) -> str:
    return note_html("; ".join(by_field(error, ()).values()))
