"""Report: an edit in figures, with a verdict in words, and a contact sheet."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..host.schema import schema
from ..host.tensors import as_image
from ..host.types import EDIT, Edit
from ..host.wording import in_words_of_nodes

GOOD = "good"

FIGURES = {
    "warp_error_e3": "warp error × 10⁻³",
    "flicker": "flicker",
    "detail": "detail, relative to the clip",
    "outlines": "outlines of the clip that are left",
    "change": "change in grey levels of 255",
}
"""Names in the library -> what they are, in the order of the text."""

PARTS = {"source": "clip", "whole": "mean", "most": "in the most changed part"}
"""What a value is of: names in the library -> in the text, where they differ."""


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
            inputs=[EDIT.Input("edit", tooltip="From Edit.")],
            outputs=[
                io.String.Output(display_name="text", tooltip="The verdict, then a line per figure."),
                io.Image.Output(display_name="contact_sheet", tooltip="Frames of the clip above those of the edit."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, edit: Edit) -> io.NodeOutput:
        """Measure it and draw the sheet."""
        text, sheet = figures_text(edit), as_image(sheet_of(edit)[None])
        shown = {**ui.PreviewImage(sheet, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput(text, sheet, ui=shown)


def figures_text(edit: Edit) -> str:
    """The verdict, and a line per figure.

    Raises:
        InterruptProcessingException: the user interrupted the workflow, which the progress bar asks at every frame.
    """
    from tokenflow.metrics import EditMetrics, judge  # takes seconds to import, for which ComfyUI should not wait

    edited = edit.edited
    metrics, bar = EditMetrics(cuts=edited.source.cuts), ProgressBar(len(edited.decoded))
    for index, frame in enumerate(edited.decoded):
        metrics.add(edited.source.frames[index], frame)
        bar.update(1)
    figures = metrics.figures()
    lines = [f"{title}: {_values(figures[name])}" for name, title in FIGURES.items() if name in figures]
    verdict = judge(figures, edit.mode)
    remedy = [] if verdict.name == GOOD else [f"try: {in_words_of_nodes(verdict.remedy)}"]
    return "\n".join([f"{verdict.name}: {verdict.finding}", *remedy, *lines])


def _values(figure: Mapping[str, Any]) -> str:
    """The values of a figure, and what each is of; the only one of a figure is the edit's."""
    if len(figure) == 1:
        return f"{next(iter(figure.values())):g}"
    return ", ".join(f"{PARTS.get(name, name)} {value:g}" for name, value in figure.items())


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
