"""The routes of models, usage and operation."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import func, select

from tokenflow.apps.server.credits import balance
from tokenflow.apps.server.pools import any_ready
from tokenflow.apps.server.problems import Problem, documented
from tokenflow.apps.server.schemas import Health, ModelLimits, ModelList, ModelObject, Usage
from tokenflow.apps.server.service import CallerOf, ServiceOf
from tokenflow.apps.server.settings import Variant
from tokenflow.apps.server.tables import Key, Video
from tokenflow.config import PRESETS
from tokenflow.models.sizes import sizes_of

router = APIRouter()


@router.get("/v1/models", response_model=ModelList, tags=["models"], responses=documented(401))
def list_models(service: ServiceOf, caller: CallerOf) -> ModelList:
    """The variants that may be named as `model`."""
    return ModelList(data=[_model(name, service.settings.variants[name]) for name in caller.models])


@router.get("/v1/usage", response_model=Usage, tags=["usage"], responses=documented(401))
def get_usage(service: ServiceOf, caller: CallerOf) -> Usage:
    """The credits of a key, and how many videos it has."""
    if caller.key_id is None:
        raise Problem(401, "needs a key, which credits belong to", headers={"WWW-Authenticate": "Bearer"})
    with service.database.read() as session:
        found = balance(session, caller.key_id)
        states = select(Video.state, func.count()).where(Video.owner == caller.owner).group_by(Video.state)
        videos = {row[0]: row[1] for row in session.execute(states)}
        key = session.get_one(Key, caller.key_id)
    return Usage(
        name=key.name,
        granted=found.granted,
        credits=found.left,
        held=found.held,
        spent=found.spent,
        rate=key.rate,
        videos=videos,
    )


@router.get("/healthz", response_model=Health, tags=["operation"])
def healthz() -> Health:
    """Whether the server answers."""
    return Health()


@router.get("/readyz", response_model=Health, tags=["operation"], responses=documented(503))
def readyz(service: ServiceOf) -> Health:
    """Whether videos can be accepted and made: there is a database, and there are workers."""
    with _unavailable("the database does not answer"), service.database.read() as session:
        session.execute(select(1))
    if not any_ready(service.folders.pools):
        raise Problem(503, "no workers are running yet")
    return Health()


@router.get(
    "/metrics",
    tags=["operation"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented(404)},
)
def metrics(request: Request) -> Response:
    """Figures for Prometheus, for clients in this network only."""
    host = "" if request.client is None else request.client.host
    if not _is_private(host):
        raise Problem(404, "not found")
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


def _model(name: str, variant: Variant) -> ModelObject:
    limits = ModelLimits.model_validate(variant.limits.model_dump())
    settings = variant.settings.get("edit", {})
    return ModelObject(
        id=name,
        description=variant.description,
        preset=variant.preset,
        modes=list(variant.modes),
        steps=settings.get("steps", PRESETS[variant.preset]["edit"]["steps"]),
        size=sizes_of(variant.model.path).native,
        credits=variant.credits,
        limits=limits,
    )


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_private or address.is_loopback


@contextmanager
def _unavailable(message: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Problem(503, message) from error
