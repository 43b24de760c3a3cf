"""What depends on the version of Gradio: everything that another one may want said differently."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import gradio as gr

STORED_JOB = "() => [sessionStorage.getItem('tokenflow-job') || '']"
"""JavaScript that gives an event the job which this tab showed before it was reloaded."""

STORE_JOB = "(id) => { sessionStorage.setItem('tokenflow-job', id); return [] }"

HIDDEN = "hidden"
"""`visible=` of a component that is in the page but not seen, so that scripts can read it."""


def on(event: Callable[..., Any], function: Callable[..., Any], inputs: Any = None, outputs: Any = None) -> Any:
    """Call a function at an event: only by the page itself, without a veil over the outputs, beside any other call."""
    return event(
        function,
        inputs=inputs,
        outputs=outputs,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )


def on_load(page: Any, function: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Call a function when the page is loaded; its first input is the job that the tab showed before."""
    page.load(
        function,
        inputs=inputs,
        outputs=outputs,
        js=STORED_JOB,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )


def store_job(job_id: Any) -> None:
    """Keep the job's id in the tab whenever it changes."""
    job_id.change(None, inputs=[job_id], outputs=[], js=STORE_JOB, api_visibility="private")


def look() -> dict[str, Any]:
    """Theme and style: fonts of the system, so that nothing is fetched from elsewhere."""
    system = ("system-ui", "sans-serif")
    theme = gr.themes.Soft(font=system, font_mono=("ui-monospace", "monospace"))
    return {"theme": theme, "css": files(__package__).joinpath("style.css").read_text(encoding="utf-8")}
