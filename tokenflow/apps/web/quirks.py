"""What depends on the version of Gradio: everything that another one may want said differently."""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
from gradio import networking, processing_utils, utils
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tokenflow.errors import EngineError

STORED = (
    "() => { window.tokenflowIsRead = true; "
    "return ['tokenflow-job', 'tokenflow-form'].map(name => sessionStorage.getItem(name) || '') }"
)
"""JavaScript that gives an event the job and the form which this tab showed before it was reloaded."""

STORE_JOB = "(id) => { sessionStorage.setItem('tokenflow-job', id); return [] }"

TICK_UNTIL_SETTLED = "(shown, settled) => [{ __type__: 'update', active: shown !== settled }]"

HIDDEN = "hidden"
"""`visible=` of a component that is in the page but not seen, so that scripts can read it."""


def on(
    event: Callable[..., Any],
    function: Callable[..., Any],
    inputs: Any = None,
    outputs: Any = None,
    *,
    latest: bool = False,
) -> Any:
    """Call a function at an event: only by the page itself, without a veil over the outputs, beside any other call.

    Args:
        event: of a component.
        function: what is called.
        inputs, outputs: components.
        latest: whether events during a call lead to one more, with what then holds; Gradio decides otherwise.
    """
    return event(
        function,
        inputs=inputs,
        outputs=outputs,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
        **({"trigger_mode": "always_last"} if latest else {}),
    )


def play(event: Any, place: str) -> None:
    """After an event, play the videos of a gallery without sound, again and again; Gradio shows their first frames.

    Args:
        event: what `on` returned.
        place: a CSS selector of the gallery.
    """
    each = "video => { video.muted = video.loop = true; video.play() }"
    script = f"() => {{ setTimeout(() => document.querySelectorAll('{place} video').forEach({each}), 500); return [] }}"
    event.then(None, inputs=[], outputs=[], js=script, api_visibility="private")


def name_button(event: Any, place: str, name: str) -> None:
    """After an event, give the button around an image a name, which screen readers say; Gradio gives none.

    Args:
        event: what `on` returned.
        place: a CSS selector of the image's component.
        name: without quotes.
    """
    button = f"document.querySelector('{place} button:has(img)')"
    script = f"() => {{ setTimeout(() => {button}?.setAttribute('aria-label', '{name}'), 500); return [] }}"
    event.then(None, inputs=[], outputs=[], js=script, api_visibility="private")


def on_load(page: Any, function: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Call a function when the page is loaded; its inputs are the job and the form that the tab showed before."""
    page.load(
        function,
        inputs=inputs,
        outputs=outputs,
        js=STORED,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )


def follow(found: Any, job_id: Any) -> None:
    """Show the job that was found, unless one was started in the tab before the answer came."""
    script = "(found, shown) => [shown || found]"
    found.change(None, inputs=[found, job_id], outputs=[job_id], js=script, api_visibility="private")


def store_job(job_id: Any) -> None:
    """Keep the job's id in the tab whenever it changes."""
    job_id.change(None, inputs=[job_id], outputs=[], js=STORE_JOB, api_visibility="private")


def store_form(fields: Mapping[str, Any]) -> None:
    """Keep the text of fields in the tab whenever one changes, as JSON, from when it was read after a reload on."""
    form = f"Object.fromEntries({json.dumps(list(fields))}.map((key, i) => [key, values[i]]))"
    store = f"sessionStorage.setItem('tokenflow-form', JSON.stringify({form}))"
    script = f"(...values) => {{ if (window.tokenflowIsRead) {store}; return [] }}"
    components = list(fields.values())
    gr.on(
        [component.change for component in components],
        None,
        inputs=components,
        outputs=[],
        js=script,
        api_visibility="private",
    )


def reveal(event: Any, *places: str) -> None:
    """After an event, scroll to the first place that is in sight when it is scrolled to; on a phone it may be far.

    Args:
        event: what `on` returned.
        places: CSS selectors, the most urgent first.
    """
    found = f"{json.dumps(places)}.flatMap(place => [...document.querySelectorAll(place)])"
    seen = f"{found}.find(each => each.offsetParent && each.innerText.trim())"
    script = f"() => {{ setTimeout(() => {seen}?.scrollIntoView({{ block: 'nearest' }}), 300); return [] }}"
    event.then(None, inputs=[], outputs=[], js=script, api_visibility="private")


def tick_until_settled(timer: Any, job_id: Any, settled: Any) -> None:
    """Let a timer tick until nothing will change about the job that the tab shows.

    The browser decides, by what it shows at that moment: an answer of the server may have been asked for before the
    last click, and arrive after the answer to it.

    Args:
        timer: of the tab.
        job_id: of the job that the tab shows.
        settled: the id of the last job that the server found settled.
    """
    for changed in (job_id.change, settled.change):
        changed(None, inputs=[job_id, settled], outputs=[timer], js=TICK_UNTIL_SETTLED, api_visibility="private")


def shown_file(path: Path) -> str:
    """A copy of a file among those that Gradio serves, which are the only ones that it does."""
    return str(processing_utils.save_file_to_cache(path, cache_dir=utils.get_upload_folder()))


def accept_uploads_only(page: Any) -> Any:
    """The page, which takes no other files of this machine for uploads, whatever a request names.

    Gradio checks that of pages which it has launched itself, and not of those which are mounted.
    """
    page.has_launched = True
    return page


class OwnFilesOnly:
    """Middleware that refuses the paths under which Gradio would fetch other addresses for a visitor.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or pass the request on."""
        if scope["type"] == "http" and re.search(r"/(file=https?:|proxy=)", unquote(scope["path"])):
            await PlainTextResponse("not here", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Disconnects:
    """Middleware that ends a request whose visitor left while sending it, which is not an error.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        with suppress(ClientDisconnect):
            await self._app(scope, receive, send)


def share_link(address: str, port: int) -> str:
    """A public address that leads to a page of this machine, through Gradio's servers, until the process ends.

    Raises:
        EngineError: they, or the program that connects to them, cannot be reached.
    """
    try:
        return networking.setup_tunnel(address, port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # of the download, of the program and of the servers
        raise EngineError(f"cannot get a share link ({error}); check the network, or leave out --share") from error


def look() -> dict[str, Any]:
    """Theme and style: fonts of the system, so that nothing is fetched from elsewhere; contrasts of 4.5 and more."""
    system = ("system-ui", "sans-serif")
    theme = gr.themes.Soft(font=system, font_mono=("ui-monospace", "monospace")).set(
        background_fill_primary="*neutral_100",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        checkbox_border_color="*neutral_400",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_background_fill="*background_fill_secondary",
        block_label_background_fill_dark="*background_fill_secondary",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        button_secondary_background_fill_hover_dark="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_visited="*primary_700",
        link_text_color_visited_dark="*primary_300",
        link_text_color_hover_dark="*primary_200",
        link_text_color_active_dark="*primary_200",
    )
    return {"theme": theme, "css": files(__package__).joinpath("style.css").read_text(encoding="utf-8")}
