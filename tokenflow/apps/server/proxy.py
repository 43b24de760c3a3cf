"""Passes requests on to the page, which is another process of this machine."""

import contextlib

import httpx
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tokenflow.apps.server.problems import Problem

OF_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "proxy-authorization"}
"""Headers that are of one connection only."""


class PageProxy:
    """An ASGI application that is another one, elsewhere.

    Args:
        port: at which it listens on this machine.
    """

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(10, read=None, write=None), trust_env=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the page does, as it does."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        query = scope["query_string"].decode("latin-1")
        url = f"{self._address}{scope.get('raw_path', b'').decode('latin-1')}{'?' if query else ''}{query}"
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        outgoing = self._client.build_request(
            scope["method"], url, headers=_passed_on(request.headers), content=request.stream() if has_body else None
        )
        try:
            answer = await self._client.send(outgoing, stream=True)
        except httpx.HTTPError:
            await Problem(503, "the page is still starting; try again in a moment").response()(scope, receive, send)
            return
        response = StreamingResponse(answer.aiter_raw(), answer.status_code)
        response.raw_headers = [
            (name, value) for name, value in answer.headers.raw if name.decode().lower() not in OF_CONNECTION
        ]
        try:
            await response(scope, receive, send)
        finally:
            with contextlib.suppress(httpx.HTTPError):
                await answer.aclose()


def _passed_on(headers: Headers) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in OF_CONNECTION]
