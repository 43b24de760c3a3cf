"""Report: an edit in figures, with a verdict in words, and a contact sheet."""

import numpy as np
from comfy_api.latest import io, ui

from ..host.schema import schema
from ..host.tensors import as_image
from ..host.types import EDIT, Edit
from ..host.widgets import without_sections

FIGURES = {
    "warp_error_e3": "warp error × 10⁻³",
    "flicker": "flicker",
    "detail": "detail × the source's",
    "outlines": "outlines of the source that are left",
    "change": "change in grey levels of 255",
}
"""Names in the library -> what they are, in the order of the text."""


class Report(io.ComfyNode):
    """Measures frame by frame, without a network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """From an edit to text and an image, which is also shown on the node."""
        return schema(
            "Report",
            "Report",
            search_words=("metrics", "compare", "contact sheet", "quality"),
            description="What became of an edit: a verdict, figures, and frames of clip and edit in two rows.",
            inputs=[EDIT.Input("edit")],
            outputs=[io.String.Output(display_name="text"), io.Image.Output(display_name="contact_sheet")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, edit: Edit) -> io.NodeOutput:
        """Measure it and draw the sheet."""
        text, sheet = figures_text(edit), as_image(sheet_of(edit)[None])
        shown = {**ui.PreviewImage(sheet, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput(text, sheet, ui=shown)


def figures_text(edit: Edit) -> str:
    """The verdict, and a line per figure."""
    from tokenflow.metrics import EditMetrics, judge  # takes seconds to import, for which ComfyUI should not wait

    edited = edit.edited
    metrics = EditMetrics()
    for index, frame in enumerate(edited.decoded):
        metrics.add(edited.source.frames[index], frame)
    figures = metrics.figures()
    lines = [
        f"{title}: " + ", ".join(f"{name} {value:g}" for name, value in figures[name_of].items())
        for name_of, title in FIGURES.items()
        if name_of in figures
    ]
    verdict = judge(figures, edit.mode)
    remedy = [] if verdict.name == "good" else [f"try: {without_sections(verdict.remedy)}"]
    return "\n".join([f"{verdict.name}: {verdict.finding}", *remedy, *lines])


def sheet_of(edit: Edit) -> np.ndarray:
    """Some frames of the clip above those of the edit, at the working size: H W 3 uint8."""
    from tokenflow.report import contact_sheet, sheet_frames

    edited = edit.edited
    shown = sheet_frames(len(edited.decoded))
    rows = {
        f"clip: {edited.source.prompt}": [edited.source.frames[index] for index in shown],
        f"edit: {edit.prompt}": [edited.decoded[index] for index in shown],
    }
    return np.asarray(contact_sheet(rows))
