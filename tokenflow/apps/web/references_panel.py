"""References: images whose look an edit takes, uploaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from tokenflow.apps.web.edited_frames import keep_references
from tokenflow.apps.web.fields import field
from tokenflow.apps.web.form import REFERENCES
from tokenflow.apps.web.mistakes import by_field, note_html
from tokenflow.apps.web.quirks import on
from tokenflow.apps.web.site import Site


@dataclass(frozen=True)
class ReferencesPanel:
    """The components that others refer to.

    Attributes:
        upload: the images as they are uploaded.
        given: the setting that names them.
        note: what is wrong.
    """

    upload: Any
    given: Any
    note: Any


def build(site: Site) -> ReferencesPanel:
    """The panel, folded, and what happens in it."""
    with gr.Accordion("Take the look of images", open=False, elem_id="references"):
        upload = gr.File(
            label="Upload images", file_count="multiple", file_types=["image"], height=120, elem_id="reference-upload"
        )
        note = gr.HTML(elem_id="references-note")
        given = field(REFERENCES, interactive=site.space.is_local)

    def keep_references_of(request: gr.Request, uploads: list[str] | None) -> Any:
        if not uploads:
            return "", ""
        try:
            kept = keep_references([Path(each) for each in uploads], site.of(request).space)
        except Exception as error:
            return gr.skip(), note_html("; ".join(by_field(error, ()).values()))
        return f"[{', '.join(map(_quoted, kept))}]", ""

    on(upload.change, keep_references_of, [upload], [given, note])
    return ReferencesPanel(upload, given, note)


def _quoted(path: Path) -> str:
    """A path as YAML in one line."""
    return "'" + str(path).replace("'", "''") + "'"
