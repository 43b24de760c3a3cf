"""The application: routes, middleware, and what runs beside them in the server's process."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import tokenflow
from tokenflow.apps.server import operations, videos
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.decoding import Inspector
from tokenflow.apps.server.expiry import expire
from tokenflow.apps.server.faults import Faults
from tokenflow.apps.server.feed import Feed
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.gate import Gate
from tokenflow.apps.server.metrics import Requests, new_registry
from tokenflow.apps.server.problems import answer_invalid, answer_problem
from tokenflow.apps.server.proxy import PageProxy
from tokenflow.apps.server.rates import Rates
from tokenflow.apps.server.service import Service
from tokenflow.apps.server.settings import ServerSettings
from tokenflow.apps.server.submission import Submissions
from tokenflow.apps.server.webhooks import Webhooks

UPLOADS_AT_ONCE = 2
"""How many uploads are decoded at the same time."""

EXPIRY_INTERVAL = 60.0
"""Seconds between two looks for what has expired."""

log = logging.getLogger(__name__)


def create_app(settings: ServerSettings, database: Database, folders: Folders, page_port: int | None = None) -> FastAPI:
    """The service as an ASGI application. Workers run elsewhere (`pool.py`).

    Args:
        settings: of the operator.
        database: with keys and videos.
        folders: with their files.
        page_port: where the web page is (`page.py`); None for no page.
    """
    inspector = Inspector(settings.decode_seconds, folders)
    submissions = Submissions(settings, database, folders, inspector)
    uploads = CapacityLimiter(UPLOADS_AT_ONCE)
    service = Service(settings, database, folders, submissions, Feed(database), uploads)
    app = FastAPI(title="tokenflow", version=tokenflow.__version__, lifespan=_beside, redirect_slashes=False)
    app.state.service = service
    app.state.inspector = inspector
    app.state.registry, histogram = new_registry(database)
    app.include_router(videos.router)
    app.include_router(operations.router)
    if page_port is not None:
        app.add_route("/ui", lambda _: RedirectResponse("/ui/"), include_in_schema=False)
        app.mount("/ui", PageProxy(page_port))
    app.add_exception_handler(HTTPException, answer_problem)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_middleware(Gate, settings=settings, database=database, rates=Rates(database))
    app.add_middleware(Faults)
    app.add_middleware(Requests, histogram=histogram)
    if settings.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.proxies))
    _describe_exactly(app)
    return app


@asynccontextmanager
async def _beside(app: FastAPI) -> AsyncIterator[None]:
    """What runs for as long as the server does."""
    service: Service = app.state.service
    app.state.inspector.warm_up()
    secret = service.folders.secret()
    webhooks = Webhooks(service.database, secret, service.settings.webhooks.allow_private)
    tasks = [asyncio.create_task(_lasting(each)) for each in (service.feed.run, webhooks.run, _expiring(service))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _lasting(run: Any) -> None:
    """Run something for ever: an error, such as of a database that restarts, is logged and not the end."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("a background task failed and is restarted")
            await asyncio.sleep(1)


def _expiring(service: Service) -> Any:
    async def run() -> None:
        while True:
            await run_in_threadpool(expire, service.database, service.folders, service.settings.keep_hours * 3600)
            await asyncio.sleep(EXPIRY_INTERVAL)

    return run


def _describe_exactly(app: FastAPI) -> None:
    """Make the OpenAPI document say that the form takes no other fields, and a clip in one of two."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            schemas = document["components"]["schemas"]
            for name, schema in schemas.items():
                if name.startswith("Body_"):
                    schema["additionalProperties"] = False
                    schema["anyOf"] = [{"required": ["video"]}, {"required": ["input_reference"]}]
            for name in ("HTTPValidationError", "ValidationError"):
                with suppress(KeyError):
                    del schemas[name]
        return app.openapi_schema or {}

    app.openapi = described  # type: ignore[method-assign]
