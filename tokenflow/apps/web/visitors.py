"""Visitors of a shared page that asks for no name: told apart by a cookie or, where it is refused, by tab."""

import secrets
from http.cookies import SimpleCookie
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "tokenflow-visitor"

SECONDS = 365 * 24 * 3600
"""For which a browser keeps it."""


def visitor(request: Any) -> str:
    """Who made a request, as a text that is not to be guessed."""
    return str(request.cookies.get(COOKIE) or request.session_hash)


class VisitorCookie:
    """Middleware that gives each browser a cookie of its own.

    Args:
        app: what it stands before.
        path: of the page; other paths are left alone.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the cookie to the answer if there is none."""
        if scope["type"] != "http" or not scope["path"].startswith(self._path) or _has_cookie(scope):
            await self._app(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", _new_cookie(scope))
            await send(message)

        await self._app(scope, receive, send_with_cookie)


def _has_cookie(scope: Scope) -> bool:
    return COOKIE in SimpleCookie(Headers(scope=scope).get("cookie", ""))


def _new_cookie(scope: Scope) -> str:
    scheme = Headers(scope=scope).get("x-forwarded-proto", scope["scheme"])
    # A hosted Space is a frame in another site's page.
    rules = "SameSite=None; Secure; Partitioned" if scheme == "https" else "SameSite=Lax"
    return f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; Max-Age={SECONDS}; HttpOnly; {rules}"
