"""The job that a tab shows: its progress and preview, Cancel and Continue, and the frames of a trial."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from tokenflow.apps.web.jobs import Job
from tokenflow.apps.web.painted import dim
from tokenflow.apps.web.progress_view import preview_html, status_html
from tokenflow.apps.web.quirks import HIDDEN, on, store_job, tick_until_settled
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.work import TRIED, edit_job, trial_job

SECONDS = 0.5
"""Between two looks at a job."""

HOW_NEAR = (
    "These frames were edited on their own. In the whole clip a frame is a keyframe at some of the steps only, so the "
    "two differ a little (docs/speed.md)."
)

UNSETTLED = "unsettled"
"""Differs from the id of every job."""

IDLE = "<p class=tf-idle>Nothing is running. Choose a clip, say what it shows and what it should show.</p>"


@dataclass(frozen=True)
class JobPanel:
    """The components that others refer to.

    Attributes:
        job_id: of the job that is shown; a change is enough to follow another one.
        finished: the id of the job, once it has ended.
    """

    job_id: Any
    finished: Any


def build(site: Site) -> JobPanel:
    """The panel and what happens in it."""
    job_id = gr.Textbox("", visible=HIDDEN, elem_id="job")
    settled = gr.Textbox(UNSETTLED, visible=HIDDEN, elem_id="settled")
    seen, finished = gr.State(""), gr.State("")
    timer = gr.Timer(SECONDS)
    with gr.Row(elem_id="job-panel"):
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(IDLE, elem_id="status")
            cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
            resume = gr.Button("Continue", visible=False, elem_id="continue")
            model = gr.HTML(elem_id="model-status")
        with gr.Column(scale=3, min_width=300):
            preview = gr.HTML(elem_id="preview")
    with gr.Column(visible=False, elem_id="trial") as trial:
        gr.HTML(f"<h2>Source and edit</h2><p>{HOW_NEAR}</p>")
        with gr.Row():
            frames = [gr.ImageSlider(label="", min_width=220, interactive=False, max_height=360) for _ in range(TRIED)]
        with gr.Row(visible=False, elem_id="trial-regions") as regions:
            images = [
                gr.Image(label="", min_width=220, interactive=False, height=200, buttons=[]) for _ in range(TRIED)
            ]

    def look(name: str, last: str) -> list[Any]:
        """What has changed since the tab last asked."""
        job = site.jobs.find(name)
        ahead = site.jobs.ahead(job) if job else 0
        now = f"{name} {job and job.version} {ahead} {site.shelf.status}"
        if now == last:
            return [gr.skip()] * 8
        ended = job is None or job.is_finished
        return [
            now,
            _model_html(site),
            status_html(job, ahead) if job else IDLE,
            preview_html(job.preview) if job and not job.is_finished else "",
            gr.update(visible=not ended, interactive=not (job and job.stop.is_set())),
            gr.update(visible=bool(job and job.state in ("cancelled", "failed"))),
            name if ended and site.is_model_settled else UNSETTLED,
            name if ended else "",
        ]

    def stop(name: str) -> None:
        job = site.jobs.find(name)
        if job:
            site.jobs.cancel(job)

    def again(name: str) -> Any:
        job = site.jobs.find(name)
        return _resume(site, job).id if job else gr.skip()

    def tried(name: str) -> list[Any]:
        """The frames of a trial that has ended."""
        job = site.jobs.find(name)
        if job is None or job.kind != "trial" or job.outcome is None:
            return [gr.update(visible=False), *[gr.skip()] * (1 + 2 * TRIED)]
        found = job.outcome
        pairs = [
            gr.update(value=(source, edited), label=f"Frame {index}", visible=True)
            for index, source, edited in zip(found.indices, found.source, found.edited, strict=True)
        ]
        masks = [] if found.masks is None else found.masks
        dimmed = [
            gr.update(value=dim(source, mask), label=f"Frame {index}: what may change", visible=True)
            for index, source, mask in zip(found.indices, found.source, masks, strict=False)
        ]
        unseen = [gr.update(visible=False)] * TRIED
        shown = [*(pairs + unseen)[:TRIED], gr.update(visible=bool(dimmed)), *(dimmed + unseen)[:TRIED]]
        return [gr.update(visible=True), *shown]

    on(timer.tick, look, [job_id, seen], [seen, model, status, preview, cancel, resume, settled, finished])
    on(cancel.click, stop, [job_id])
    on(resume.click, again, [job_id], [job_id])
    on(finished.change, tried, [finished], [trial, *frames, regions, *images])
    store_job(job_id)
    tick_until_settled(timer, job_id, settled)
    return JobPanel(job_id, finished)


def _model_html(site: Site) -> str:
    """The model in memory; nothing where others edit."""
    return "" if site.hired else str(Markup("<p>Model: {}</p>").format(site.shelf.status))


def _resume(site: Site, job: Job) -> Job:
    """The same job once more; it goes on from what is stored."""
    again = trial_job(job.configs[0], site.editor) if job.kind == "trial" else edit_job(job.configs, site.editor)
    return site.jobs.submit(again)
