"""A clip as an answer: whole or in ranges, unless the client has it already."""

from pathlib import Path

from fastapi import Response
from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from tokenflow.apps.server.problems import Problem

RANGE_ERRORS = {400: "the header Range is malformed; expected bytes=0-499", 416: "the clip has fewer bytes than that"}


def clip_response(path: Path, name: str, if_none_match: str | None) -> Response:
    """The clip, or 304.

    Args:
        path: of the file.
        name: for the client to store it under.
        if_none_match: the header of that name.
    """
    response = ClipResponse(path, filename=name, stat_result=path.stat(), content_disposition_type="inline")
    known = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    if "*" in known or response.headers["etag"] in known:
        return Response(status_code=304, headers={"etag": response.headers["etag"]})
    return response


class ClipResponse(FileResponse):
    """A file whose errors have the form of all others."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        refused: Problem | None = None

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in RANGE_ERRORS:
                status, size = message["status"], self.stat_result.st_size if self.stat_result else 0
                headers = {"Content-Range": f"bytes */{size}"} if status == 416 else None
                refused = Problem(status, RANGE_ERRORS[status], "Range", headers)
            if refused is None:
                await send(message)

        await super().__call__(scope, receive, send_unless_refused)
        if refused is not None:
            await refused.response()(scope, receive, send)
