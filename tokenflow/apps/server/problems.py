"""Errors of the interface: a status, and a body whose form clients know from other services."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "insufficient_credits",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media",
    416: "range_not_satisfiable",
    422: "invalid_request",
    429: "rate_limit",
    500: "internal_error",
    503: "unavailable",
}
"""What kind of error a status is."""


class ErrorDetail(BaseModel):
    """What went wrong.

    Attributes:
        type: what kind of error it is, for programs.
        message: one line for people: what was expected, what came, what to do.
        param: the field that is wrong; null if it is none or several.
        code: as `type`.
    """

    type: str
    message: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


class Problem(HTTPException):
    """An answer that is an error.

    Args:
        status: of HTTP.
        message: one line.
        param: the field that is wrong.
        headers: such as Retry-After.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.param = param

    def response(self) -> JSONResponse:
        """The answer."""
        return _response(self.status_code, self.detail, self.param, self.headers)


def retry_later(message: str, seconds: float) -> Problem:
    """429, with when to try again."""
    return Problem(429, message, headers={"Retry-After": str(max(1, round(seconds)))})


def not_found(video_id: str) -> Problem:
    """404 of a video: there is none, it is another client's, or it was deleted."""
    return Problem(404, f"there is no video {video_id[:60]!r}, or it is not yours, or it was deleted", "video_id")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How OpenAPI shows answers that are errors."""
    described: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": TYPES[status]} for status in statuses
    }
    if 429 in statuses:
        described[429]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return described


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """Errors of this package and of the framework."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, HTTPException):
        return _response(error.status_code, str(error.detail), None, error.headers)
    raise error


async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """Requests that do not fit the schema."""
    if not isinstance(error, RequestValidationError):
        raise error
    mistakes = [
        (".".join(each for each in mistake["loc"][1:] if isinstance(each, str)), mistake["msg"])
        for mistake in error.errors()
    ]
    message = "; ".join(f"{name}: {text}" if name else text for name, text in mistakes)
    return _response(422, message or "the request is not valid", mistakes[0][0] if len(mistakes) == 1 else None, None)


def _response(status: int, message: str, param: str | None, headers: Any) -> JSONResponse:
    kind = TYPES.get(status, "error")
    detail = ErrorDetail(type=kind, message=message, param=param or None, code=kind)
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, headers)
