"""The gate before the interface: who calls, how often, and how much a body may hold, before any of it is read."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenflow.apps.server.callers import Caller, identify
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.problems import Problem, retry_later
from tokenflow.apps.server.rates import Rates
from tokenflow.apps.server.settings import ServerSettings

GUARDED = "/v1/"

SMALL_BODY = 2**20
"""Bytes of a body without files."""


class Gate:
    """Middleware. The caller is `request.state.caller`.

    Args:
        app: what it stands before.
        settings: of the server.
        database: with the keys.
        rates: of submissions.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, database: Database, rates: Rates) -> None:
        self._app, self._settings, self._database, self._rates = app, settings, database, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = self._admit_body(scope, receive)
            if scope["path"].startswith(GUARDED):
                caller = await self._caller(scope)
                scope.setdefault("state", {})["caller"] = caller
                await self._admit_submission(scope, caller)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        authorization = Headers(scope=scope).get("authorization")
        address = (scope.get("client") or (None,))[0]
        return await run_in_threadpool(identify, authorization, address, self._settings, self._database)

    async def _admit_submission(self, scope: Scope, caller: Caller) -> None:
        """Count what makes work, accepted or not."""
        makes_work = scope["path"].rstrip("/") == "/v1/videos" or scope["path"].endswith("/remix")
        if scope["method"] != "POST" or not makes_work or caller.rate is None:
            return
        seconds = await run_in_threadpool(self._rates.seconds_to_wait, caller.rate, caller.owner)
        if seconds:
            raise retry_later(f"more than {caller.rate} submissions; try again later", seconds)

    def _admit_body(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse a body that says it is too long, and end one that turns out to be."""
        takes_files = scope["path"].rstrip("/") == "/v1/videos" or not scope["path"].startswith(GUARDED)
        most = self._settings.body_bytes if takes_files else SMALL_BODY
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > most:
            raise _too_long(most)
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message: dict[str, Any] = dict(await receive())
            received += len(message.get("body", b""))
            if received > most:
                raise _too_long(most)
            return message

        return receive_some


def _too_long(most: int) -> Problem:
    return Problem(413, f"the request has more than {most / 1e6:g} MB; send smaller files")
