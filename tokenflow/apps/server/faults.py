"""Faults of the service: logged, and answered in the form of all errors."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenflow.apps.server.problems import Problem

INTERNAL = "an internal error; the operator will find it in the log"

log = logging.getLogger(__name__)


class Faults:
    """Middleware that answers exceptions with 500.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:
            if has_begun:
                raise
            log.exception("%s %s failed", scope["method"], getattr(scope.get("route"), "path", "of no route"))
            await Problem(500, INTERNAL).response()(scope, receive, send)
