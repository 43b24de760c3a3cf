"""What may change: the whole frame, or a region of it, which may be painted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from tokenflow.apps.web.clips import keep_upload
from tokenflow.apps.web.fields import choice, element, field
from tokenflow.apps.web.form import WHICH_FRAMES, to_clip
from tokenflow.apps.web.mistakes import by_field, note_html
from tokenflow.apps.web.painted import (
    COLOUR,
    OPACITY,
    as_layer,
    frame_image,
    frame_number,
    keep_painted,
    painted_on,
    same_frame,
    what_was_painted,
)
from tokenflow.apps.web.quirks import HIDDEN, on
from tokenflow.apps.web.region_fields import FEATHER, GROW, LISTED, MASK, PAINTED, REGIONS, SIMPLE, WORDS
from tokenflow.apps.web.site import Site
from tokenflow.config import Clip

MOVED = "<p role=status>The painted frame is frame {} of this part of the clip.</p>"
NOT_IN_PART = (
    "<p role=status>The painted frame is not in this part of the clip, so what was painted is gone: paint again.</p>"
)


@dataclass(frozen=True)
class RegionPanel:
    """The components that others refer to.

    Attributes:
        fields: by the key of their setting, or of a part of it.
        parts: what is in sight for each kind of region.
        edge: how it grows and fades.
        number: of the frame to paint on.
        show: shows it.
        canvas: the frame.
        shown: the number of the frame on the canvas.
        part: the part of the clip that it is of; None if the canvas is empty.
        drawn: what the field of the painted part held when it was drawn on the canvas.
        upload: a mask as it is uploaded.
        note: what is wrong.
        changed: what became of it when the clip changed.
    """

    fields: dict[str, Any]
    parts: dict[str, Any]
    edge: Any
    number: Any
    show: Any
    canvas: Any
    shown: Any
    part: Any
    drawn: Any
    upload: Any
    note: Any
    changed: Any


def build(site: Site) -> RegionPanel:
    """The panel; `connect` makes it work."""
    fields: dict[str, Any] = {REGIONS: choice(REGIONS)}
    parts: dict[str, Any] = {}
    with gr.Column(visible=False) as parts["words"]:
        fields[WORDS] = field(WORDS)
    with gr.Column(visible=False) as parts["painted"]:
        with gr.Row():
            number = gr.Textbox(
                "0",
                label="Frame to paint on",
                info="Counted from 0",
                max_lines=1,
                min_width=140,
                elem_id="frame-to-paint",
            )
            show = gr.Button("Show this frame", min_width=140, elem_id="show-frame")
        gr.HTML("<p>Paint over what may change.</p>")
        canvas = gr.ImageEditor(
            label="Paint it",
            type="pil",
            format="png",
            sources=(),
            transforms=(),
            layers=gr.LayerOptions(allow_additional_layers=False),
            brush=gr.Brush(
                default_size="auto",
                colors=[(f"rgb{COLOUR}", OPACITY)],
                default_color=(f"rgb{COLOUR}", OPACITY),
                color_mode="fixed",
            ),
            buttons=[],
            height=360,
            elem_id="canvas",
        )
        fields[PAINTED] = gr.Textbox(label="Painted part", visible=HIDDEN, elem_id=element(PAINTED))
        shown = gr.Textbox("0", visible=HIDDEN)
        part, drawn = gr.State(None), gr.Textbox("", visible=HIDDEN)
    with gr.Column(visible=False) as parts["mask"]:
        upload = gr.File(label="Upload a mask", height=120, elem_id="upload-mask")
        fields[MASK] = field(MASK, interactive=site.space.is_local)
    with gr.Column(visible=False) as parts["list"]:
        fields[LISTED] = field(LISTED)
    with gr.Accordion("Its edge", open=False, visible=False, elem_id="edge") as edge, gr.Row():
        fields |= {key: field(key, min_width=120) for key in (GROW, FEATHER)}
    note, changed = gr.HTML(elem_id="region-note"), gr.HTML(elem_id="region-changed")
    return RegionPanel(fields, parts, edge, number, show, canvas, shown, part, drawn, upload, note, changed)


def connect(site: Site, region: RegionPanel, clip: Any, fields: Mapping[str, Any]) -> None:
    """What happens in the panel.

    Args:
        site: of the page.
        region: the panel.
        clip: the state that holds the clip's file.
        fields: all of them.
    """
    of_clip = {key: component for key, component in fields.items() if key.startswith("clip.")}
    of_part = [fields[key] for key in WHICH_FRAMES if key in fields]
    painted = region.fields[PAINTED]

    def adapt(kind: str) -> list[Any]:
        return [gr.update(visible=kind in SIMPLE), *(gr.update(visible=name == kind) for name in region.parts)]

    def draw(request: gr.Request, kind: str, text: str, number: str, file: str, values: tuple[str, ...]) -> list[Any]:
        """A frame on the canvas, with what was painted on it: what `answered` shows."""
        if kind != "painted" or not file:
            return [gr.skip()] * 7
        own = site.of(request)
        try:
            chosen = to_clip(dict(zip(of_clip, values, strict=True)), file)
            own.check_clip(chosen.path)
            index = frame_number(number)
            image = frame_image(chosen, index)
            held = what_was_painted(text)
            layers = []
            if held and held[1] == index and own.space.may_read(held[0]):
                layers = [as_layer(held[0], image.size)]
        except Exception as error:
            return [*[gr.skip()] * 6, _said(error)]
        value = {"background": image, "layers": layers, "composite": None}
        text = text if layers else ""
        return [str(index), str(index), chosen, text, value, text, ""]

    def draw_chosen(request: gr.Request, kind: str, text: str, number: str, file: str, *values: str) -> list[Any]:
        """The frame that was chosen."""
        return draw(request, kind, text, number, file, values)

    def draw_again(request: gr.Request, kind: str, text: str, number: str, file: str, *values: str) -> list[Any]:
        """The frame that was painted on, or else the one that was chosen."""
        held = what_was_painted(text)
        return draw(request, kind, text, str(held[1]) if held else number, file, values)

    def draw_new(
        request: gr.Request, drawn: str, kind: str, text: str, number: str, file: str, *values: str
    ) -> list[Any]:
        """The same, unless the canvas shows it already."""
        if text == drawn:
            return [gr.skip()] * 7
        return draw_again(request, kind, text, number, file, *values)

    def follow_part(
        request: gr.Request, before: Clip | None, kind: str, text: str, number: str, file: str, *values: str
    ) -> list[Any]:
        """The same frame and what was painted on it, in another part of the clip; or that it is not in that part."""
        try:
            after = to_clip(dict(zip(of_clip, values, strict=True)), file)
            if before is None or _part(before) == _part(after):
                return [gr.skip()] * 8
            site.of(request).check_clip(after.path)
            held = what_was_painted(text)
            index = same_frame(held[1] if held else frame_number(number), before, after)
        except Exception:  # told beside the field when the edit is started
            return [gr.skip()] * 8
        text = painted_on(held[0], index) if held and index is not None else ""
        said = "" if held is None else NOT_IN_PART if index is None else MOVED.format(index)
        if kind != "painted":
            return [gr.skip(), gr.skip(), after, gr.skip(), gr.skip(), text, gr.skip(), said]
        return [*draw(request, kind, text, str(index or 0), file, values), said]

    def keep_strokes(request: gr.Request, value: Any, number: str) -> list[Any]:
        try:
            kept = keep_painted((value or {}).get("layers", []), frame_number(number), site.of(request).space)
        except Exception as error:
            return [gr.skip(), gr.skip(), _said(error), gr.skip()]
        return [kept, kept, "", ""]

    def keep_mask(request: gr.Request, upload: str) -> list[Any]:
        try:
            return [str(keep_upload(Path(upload), site.of(request).space)), ""]
        except Exception as error:
            return ["", _said(error)]

    kind = region.fields[REGIONS]
    asked = [kind, painted, region.number, clip, *of_clip.values()]
    answered = [region.number, region.shown, region.part, region.drawn, region.canvas, painted, region.note]
    on(kind.change, adapt, [kind], [region.edge, *region.parts.values()])
    for event in (kind.change, clip.change):
        on(event, draw_again, asked, answered)
    on(painted.change, draw_new, [region.drawn, *asked], answered)
    for event in (region.show.click, region.number.submit):
        on(event, draw_chosen, asked, answered)
    on(
        region.canvas.input,
        keep_strokes,
        [region.canvas, region.shown],
        [painted, region.drawn, region.note, region.changed],
        latest=True,
    )
    for event in [event for each in of_part for event in (each.blur, each.submit)]:
        on(event, follow_part, [region.part, *asked], [*answered, region.changed])
    on(region.upload.upload, keep_mask, [region.upload], [region.fields[MASK], region.note])
    on(region.upload.clear, lambda: "", [], [region.fields[MASK]])


def _part(clip: Clip) -> tuple[Any, ...]:
    return clip.path, *(getattr(clip, key.rpartition(".")[2]) for key in WHICH_FRAMES)


def _said(error: Exception) -> str:
    return note_html("; ".join(by_field(error, (REGIONS, "clip.path")).values()))
