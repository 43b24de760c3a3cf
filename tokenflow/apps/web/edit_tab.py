"""The flow from left to right: clip, what it shows, what it should show, how, try, whole clip."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from tokenflow.apps.uploads import check_limits
from tokenflow.apps.web import keyframes_panel, references_panel, region_panel
from tokenflow.apps.web.clips import describe, keep_upload, playable, thumbnail
from tokenflow.apps.web.fields import choice, element, field, sentence, shown
from tokenflow.apps.web.form import EDITED_FRAMES, PART, REFERENCES, to_values
from tokenflow.apps.web.keyframes_panel import KeyframesPanel
from tokenflow.apps.web.mistakes import by_field, note_html
from tokenflow.apps.web.quirks import HIDDEN, on, shown_file
from tokenflow.apps.web.region_fields import MASK, PAINTED
from tokenflow.apps.web.region_panel import RegionPanel
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.work import TRIED
from tokenflow.models.presets import PRESETS

COLUMN = 260
"""Pixels of a column of the flow, at the least; a narrower window puts the columns below each other."""

OF_ONE_CLIP = {PAINTED: "the painted part", MASK: "the mask", EDITED_FRAMES: "the edited frames"}
"""Settings that are made for one clip, and their names; another clip does away with them."""

ANY_MODEL = (
    "mini-sd was trained on drawn scenes; a filmed clip needs another, such as sd1.5: one of those listed, or any "
    "folder, .safetensors file or Hub id"
)


@dataclass(frozen=True)
class EditTab:
    """The components that others refer to.

    Attributes:
        clip: the file of the clip, as a state of the server; empty if there is none.
        clip_name: the same, in the page, so that a tab can keep it.
        clip_note: what is wrong with it, or what it is.
        fields: by the key of their setting.
        examples: the gallery of examples.
        keyframes: the panel of frames that are edited elsewhere.
        region: the panel of what may change.
        estimate: asks what the edit of the whole clip would take.
        outlook: the answer.
        tried: starts a trial.
        whole: starts the edit of the whole clip.
    """

    clip: Any
    clip_name: Any
    clip_note: Any
    fields: dict[str, Any]
    examples: Any
    keyframes: KeyframesPanel
    region: RegionPanel
    estimate: Any
    outlook: Any
    tried: Any
    whole: Any


def build(site: Site) -> EditTab:
    """The tab and what happens in it; jobs are started by page.py."""
    fields: dict[str, Any] = {}
    clip, clip_name = gr.State(""), gr.Textbox("", visible=HIDDEN)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=COLUMN):
            gr.HTML("<h2>1 · Clip</h2>")
            upload = gr.File(label="Upload a clip", height=150, elem_id="upload")
            examples = gr.Gallery(
                [(thumbnail(each.config.clip.path), each.title) for each in site.examples],
                label="Examples",
                columns=2,
                height="auto",
                allow_preview=False,
                buttons=[],
                interactive=False,
                object_fit="cover",
                elem_id="examples",
                visible=bool(site.examples),
            )
        with gr.Column(min_width=COLUMN):
            gr.HTML("<h2>2 · What it shows</h2>")
            video = gr.Video(label="Clip", interactive=False, height=220, loop=True, elem_id="clip", buttons=[])
            clip_note = gr.HTML(elem_id="clip-note")
            fields["clip.prompt"] = sentence("clip.prompt")
            with gr.Accordion("Part and size of the clip", open=False), gr.Row():
                fields |= {key: field(key, min_width=120) for key in PART}
            region = region_panel.build(site)
            fields |= region.fields
        with gr.Column(min_width=COLUMN):
            gr.HTML("<h2>3 · What it should show</h2>")
            fields["edit.prompt"] = sentence("edit.prompt")
            fields["edit.mode"] = choice("edit.mode")
            keyframes = keyframes_panel.build(site)
            fields[EDITED_FRAMES] = keyframes.given
            fields[REFERENCES] = references_panel.build(site).given
        with gr.Column(min_width=COLUMN):
            gr.HTML("<h2>4 · Edit</h2>")
            fields["preset"] = choice("preset")
            fields["model.path"] = model_field(site)
            fields["edit.seed"] = field("edit.seed")
            tried = gr.Button(f"Try {_in_words(TRIED)} keyframes", visible=site.editor.has_trials, elem_id="try")
            whole = gr.Button("Whole clip", variant="primary", elem_id="whole")
            estimate = gr.Button("Estimate time, memory and disk", size="md", elem_id="estimate")
            outlook = gr.HTML(elem_id="outlook")
    tab = EditTab(clip, clip_name, clip_note, fields, examples, keyframes, region, estimate, outlook, tried, whole)
    left = [fields[key] for key in OF_ONE_CLIP]
    on(upload.upload, _keep(site), [upload, clip, *left], [clip, clip_note, region.changed, *left])
    on(upload.clear, lambda: "", [], [clip])
    on(clip.change, _show(site), [clip], [clip_name, video, clip_note])
    on(clip.change, lambda: "", [], [outlook])
    on(fields["edit.mode"].change, _adapt, [fields["edit.mode"]], [keyframes.panel, tried])
    return tab


def take_examples(site: Site, tab: EditTab, fields: dict[str, Any]) -> None:
    """Fill the form from an example that is chosen."""

    def take(chosen: gr.SelectData) -> list[Any]:
        config = site.examples[chosen.index].config
        return [str(config.clip.path), "", *shown(fields, to_values(config, site.space))]

    on(tab.examples.select, take, [], [tab.clip, tab.region.changed, *fields.values()])


def model_field(site: Site) -> Any:
    """The models that are offered; where the page is local, any other may be named."""
    names = [entry.name for entry in site.models]
    published = [preset.name for preset in PRESETS] if site.space.is_local else []
    return gr.Dropdown(
        [*names, *published],
        value=next(iter(names), None),
        label="Model",
        info=ANY_MODEL if site.space.is_local else None,
        allow_custom_value=site.space.is_local,
        elem_id=element("model.path"),
    )


def _keep(site: Site) -> Callable[..., list[Any]]:
    def keep_clip(request: gr.Request, upload: str, before: str, *left: str) -> list[Any]:
        """The clip, what is wrong with it, and what of the one before does not fit it and is gone."""
        try:
            kept = str(keep_upload(Path(upload), site.of(request).space))
        except Exception as error:
            return ["", note_html(by_field(error, ["clip.path"]).popitem()[1]), *[gr.skip()] * (1 + len(left))]
        if kept == before:
            return [kept, *[gr.skip()] * (2 + len(left))]
        gone = [name for name, value in zip(OF_ONE_CLIP.values(), left, strict=True) if value]
        said = f"<p role=status>Of the clip before, and gone: {', '.join(gone)}.</p>" if gone else ""
        return [kept, "", said, *[""] * len(left)]

    return keep_clip


def _show(site: Site) -> Callable[[gr.Request, str], Any]:
    def show(request: gr.Request, clip: str) -> Any:
        if not clip:
            return "", None, gr.skip()
        try:
            info = check_limits(Path(clip), site.space.limits)
            return clip, shown_file(playable(Path(clip), site.of(request).space)), f"<p>{describe(info)}</p>"
        except Exception as error:
            return clip, None, note_html(by_field(error, ["clip.path"]).popitem()[1])

    return show


def _adapt(mode: str) -> Any:
    """With frames that were edited elsewhere there is nothing to try."""
    given = mode == "keyframes"
    return gr.update(visible=given), gr.update(interactive=not given)


def _in_words(count: int) -> str:
    return {1: "one", 2: "two", 3: "three", 4: "four"}.get(count, str(count))
