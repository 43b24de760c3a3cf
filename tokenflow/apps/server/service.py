"""What all requests share, and how they reach it."""

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from tokenflow.apps.server.callers import Caller
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.feed import Feed
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.settings import ServerSettings
from tokenflow.apps.server.submission import Submissions

BEARER = HTTPBearer(auto_error=False, description="a key from `tokenflow keys create`")
"""For OpenAPI: the gate has let the request pass by now."""


@dataclass(frozen=True)
class Service:
    """What requests are answered from.

    Attributes:
        uploads: limits how many uploads are looked at at once, so that other requests never wait for them.
    """

    settings: ServerSettings
    database: Database
    folders: Folders
    submissions: Submissions
    feed: Feed
    uploads: CapacityLimiter


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _caller(request: Request, _: Annotated[object, Security(BEARER)]) -> Caller:
    caller: Caller = request.state.caller
    return caller


ServiceOf = Annotated[Service, Depends(_service)]
CallerOf = Annotated[Caller, Depends(_caller)]
