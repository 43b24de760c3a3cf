import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from tokenflow.apps.web.quirks import Disconnects

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


def answered(messages: list[Message]) -> list[Message]:
    """What an app behind the middleware, which reads the body and sends it back, answers to messages of a visitor."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await send({"type": "http.response.body", "body": body})

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Disconnects(app)(dict(SCOPE), receive, send))
    return sent


def test_a_visitor_who_leaves_while_sending_ends_the_request() -> None:
    half = {"type": "http.request", "body": b"half", "more_body": True}
    assert answered([half, {"type": "http.disconnect"}]) == []


def test_other_requests_are_answered() -> None:
    whole = {"type": "http.request", "body": b"whole", "more_body": False}
    assert answered([whole]) == [{"type": "http.response.body", "body": b"whole"}]


def test_other_errors_arrive() -> None:
    async def app(*_: Any) -> None:
        raise ValueError("broken")

    async def unused(*_: Any) -> Any: ...

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(Disconnects(app)(dict(SCOPE), unused, unused))
