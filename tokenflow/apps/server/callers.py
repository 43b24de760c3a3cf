"""Who calls: a key, or an address of the free tier."""

import ipaddress
from dataclasses import dataclass

from tokenflow.apps.server.database import Database
from tokenflow.apps.server.keys import recognise
from tokenflow.apps.server.problems import Problem
from tokenflow.apps.server.settings import ServerSettings

IPV6_PREFIX = 64
"""What one subscriber has: an address alone would be no limit."""


@dataclass(frozen=True)
class Caller:
    """A client.

    Attributes:
        owner: whom its videos belong to.
        key_id: of its key; None in the free tier.
        name: of its key.
        rate: of submissions; None for no limit.
        models: that it may use.
        waiting: how many unfinished videos it may have.
    """

    owner: str
    key_id: str | None
    name: str
    rate: str | None
    models: tuple[str, ...]
    waiting: int


def identify(authorization: str | None, address: str | None, settings: ServerSettings, database: Database) -> Caller:
    """Who sends a request.

    Args:
        authorization: the header of that name.
        address: of the client, behind trusted proxies.
        settings: of the server.
        database: with the keys.

    Raises:
        Problem: the key is wrong, or there is none and no free tier.
    """
    if authorization is None:
        if settings.free is None:
            raise _unauthorized("expected a key in the header `Authorization: Bearer KEY`")
        owner = f"address:{network(address)}"
        return Caller(owner, None, owner, settings.free.rate, settings.free.models, settings.free.waiting)
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() == "bearer":
        with database.read() as session:
            key = recognise(session, text.strip())
        if key is not None:
            return Caller(f"key:{key.id}", key.id, key.name, key.rate, tuple(settings.variants), settings.waiting)
    raise _unauthorized("the key is unknown or was revoked; check the header `Authorization: Bearer KEY`")


def network(address: str | None) -> str:
    """What counts as one address of the free tier: an IPv4 address, or the network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed)


def _unauthorized(message: str) -> Problem:
    return Problem(401, message, headers={"WWW-Authenticate": "Bearer"})
