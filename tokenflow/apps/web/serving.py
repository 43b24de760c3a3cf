"""Serving the page: on its own, or mounted in a web service."""

import os
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tokenflow.apps.web.access import LOCAL, Check, check_against
from tokenflow.apps.web.jobs import Jobs
from tokenflow.apps.web.page import build
from tokenflow.apps.web.quirks import Disconnects, OwnFilesOnly, accept_uploads_only, look, share_link
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.space import Space
from tokenflow.apps.web.visitors import VisitorCookie
from tokenflow.apps.web.work import Editor
from tokenflow.errors import ConfigError

DEFAULT_PORT = 7860

EDITS_AT_ONCE = 32
"""How many edits of all visitors an editor of a service is asked for at the same time."""

CACHE = "GRADIO_TEMP_DIR"
"""The variable that tells Gradio where to keep uploads and copies of what it shows."""


def mount(
    app: FastAPI,
    path: str = "/ui",
    space: Space | None = None,
    check: Check | None = None,
    editor: Editor | None = None,
) -> Site:
    """Add the page to a web service.

    Args:
        app: the service.
        path: where in it.
        space: what the page may use; by default the bundled models and examples, and no others.
        check: whether a user may enter, by name and password; None lets all in, each with results of their own.
        editor: who makes edits, several at once; by default this process, one after the other.

    Returns:
        The state of the page; `site.jobs.close()` ends its work.
    """
    jobs = Jobs() if editor is None else Jobs(EDITS_AT_ONCE)
    site = Site(space or Space(is_local=False), jobs, hired=editor)
    app.add_middleware(OwnFilesOnly)
    app.add_middleware(Disconnects)
    if check is None and not site.space.is_local:
        app.add_middleware(VisitorCookie, path=path)
    gr.mount_gradio_app(
        app,
        accept_uploads_only(build(site)),
        path,
        auth=check,
        max_file_size=f"{site.space.limits.megabytes}mb",
        show_error=False,
        ssr_mode=False,
        footer_links=[],
        **look(),
    )
    return site


def serve(
    address: str = LOCAL[0],
    port: int = DEFAULT_PORT,
    password: str | None = None,
    space: Space | None = None,
    share: bool = False,
    on_start: Callable[[str], Any] = print,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        address: of the network interface; with any but this machine's own, others see the page.
        port: of the page.
        password: lets a visitor in; None for all.
        space: what the page may use; by default all models and clips of this machine if only its user sees the page.
        share: whether to ask Gradio's servers for a link under which anyone can open the page.
        on_start: called with the page's address.

    Raises:
        ConfigError: a share link was asked for without a password.
        EngineError: Gradio's servers gave no share link.
    """
    is_local = address in LOCAL and not share
    if share and password is None:
        raise ConfigError("a page with a share link can be opened by anyone and needs a password")
    with TemporaryDirectory(prefix="tokenflow-ui-") as folder:
        os.environ[CACHE] = folder
        _serve(address, port, password, space or Space(is_local=is_local), share, on_start)


def _serve(
    address: str, port: int, password: str | None, space: Space, share: bool, on_start: Callable[[str], Any]
) -> None:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if address in LOCAL and not share:  # else pages of other sites could reach this one through a name of their own
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "[::1]"])
    site = mount(app, "", space, None if password is None else check_against(password))
    try:
        on_start(share_link(address, port) if share else f"http://{address}:{port}")
        with suppress(KeyboardInterrupt):
            uvicorn.run(app, host=address, port=port, log_level="warning", timeout_graceful_shutdown=1)
    finally:
        site.jobs.close()
