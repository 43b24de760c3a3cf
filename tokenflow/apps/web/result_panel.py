"""A finished edit: before and after, in motion, in figures, and as files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from tokenflow.apps.web.clips import playable
from tokenflow.apps.web.figures import figures_html
from tokenflow.apps.web.quirks import name_button, on, play, shown_file
from tokenflow.apps.web.results import frame_pair, read_result
from tokenflow.apps.web.site import Site
from tokenflow.errors import TokenflowError


@dataclass(frozen=True)
class ResultPanel:
    """The components that others refer to.

    Attributes:
        shown: the folder of the result that is shown, as a state of the server; empty for none.
        several: the folders of a comparison; empty for none.
    """

    shown: Any
    several: Any


def build(site: Site) -> ResultPanel:
    """The panel and what happens in it."""
    shown, several = gr.State(""), gr.State([])
    grid = gr.Gallery(
        label="Comparison: choose one to look at it closely",
        columns=3,
        fit_columns=False,
        height="auto",
        visible=False,
        allow_preview=False,
        buttons=[],
        interactive=False,
        elem_id="grid",
    )
    with gr.Column(visible=False, elem_id="result") as panel:
        heading = gr.HTML()
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                pair = gr.ImageSlider(label="Before and after", interactive=False, elem_id="pair", max_height=480)
                frame = gr.Slider(0, 1, 0, step=1, label="Frame, counted from 0", elem_id="frame", buttons=[])
            with gr.Column(min_width=300):
                video = gr.Video(
                    label="Source and edit in step", interactive=False, loop=True, autoplay=True, elem_id="comparison"
                )
                region = gr.Video(
                    label="What could change, in white",
                    interactive=False,
                    loop=True,
                    autoplay=True,
                    height=220,
                    buttons=[],
                    elem_id="region",
                )
                findings = gr.HTML(elem_id="findings")
                with gr.Row():
                    edited = gr.DownloadButton(
                        "Download the clip", variant="primary", min_width=140, elem_id="edited-clip"
                    )
                    report = gr.DownloadButton("Download the report", min_width=140, elem_id="report")
                files = gr.File(label="All files", file_count="multiple", interactive=False, elem_id="files")
        gr.HTML("<h3>Frames of the source, and of the edit</h3>")
        sheet = gr.Image(
            label="Contact sheet", show_label=False, interactive=False, elem_id="sheet", buttons=["fullscreen"]
        )

    def show(request: gr.Request, folder: str) -> list[Any]:
        result = read_result(Path(folder)) if folder else None
        if result is None:
            return [gr.update(visible=False), *[gr.skip()] * 10]
        moving = result.comparison or result.video
        mask = result.region and shown_file(playable(result.region, site.of(request).space))
        page, frames = result.folder / "report.html", result.contact_sheet
        return [
            gr.update(visible=True),
            Markup("<h2>{}</h2>").format(result.title),
            gr.update(maximum=max(1, result.report["frames"] - 1), value=0, interactive=result.report["frames"] > 1),
            _pair(folder, 0),
            shown_file(playable(moving, site.of(request).space)),
            gr.update(value=mask, visible=mask is not None),
            figures_html(result.report["metrics"]),
            shown_file(result.video),
            gr.update(value=shown_file(page) if page.exists() else None, visible=page.exists()),
            [shown_file(path) for path in result.files],
            gr.update(value=frames and shown_file(frames), visible=frames is not None),
        ]

    def compare(request: gr.Request, folders: list[str]) -> Any:
        results = [result for result in map(read_result, map(Path, folders)) if result]
        videos = [(shown_file(playable(result.video, site.of(request).space)), result.title) for result in results]
        return gr.update(value=videos, visible=len(videos) > 1)

    def choose(folders: list[str], chosen: gr.SelectData) -> str:
        return folders[chosen.index]

    filled = [panel, heading, frame, pair, video, region, findings, edited, report, files, sheet]
    fill = on(shown.change, show, [shown], filled)
    name_button(fill, "#sheet", "Contact sheet, enlarge")
    on(frame.change, _pair, [shown, frame], [pair])
    play(on(several.change, compare, [several], [grid]), "#grid")
    on(grid.select, choose, [several], [shown])
    return ResultPanel(shown, several)


def _pair(folder: str, number: float) -> Any:
    """A frame of both, counted from 0."""
    result = read_result(Path(folder)) if folder else None
    try:
        return frame_pair(result, int(number)) if result else None
    except TokenflowError:  # the clip has been replaced since by one that cannot be read
        return None
