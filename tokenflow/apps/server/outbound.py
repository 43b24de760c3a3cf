"""Requests to addresses that clients name: only to public ones, resolved once and then pinned, without redirects."""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

import httpx

TIMEOUT = 10.0
"""Seconds for a request, from connecting to the status."""


class RefusedAddress(ValueError):  # noqa: N818 - an outcome, not a fault
    """A webhook leads where it may not."""


def resolve_public(host: str, port: int, allow_private: bool) -> str:
    """An address of a host. Every one that it has must be public, unless private ones are allowed.

    Raises:
        RefusedAddress: one is not, or there is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RefusedAddress(f"{host} cannot be resolved") from error
    addresses = [str(each[4][0]).partition("%")[0] for each in found]
    for address in addresses:
        if not allow_private and not is_public(address):
            raise RefusedAddress(f"{host} is at {address}, which is not a public address")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is of the internet, and not of a private network, this machine, a link or a group."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = [parsed.sixtofour, *(parsed.teredo or ())]
        if any(each is not None and not is_public(str(each)) for each in inner):
            return False
        if parsed not in ipaddress.ip_network("2000::/3"):  # all else is reserved, or leads to IPv4 addresses
            return False
    return parsed.is_global and not parsed.is_multicast


def host_and_port(url: str) -> tuple[str, int]:
    """Where a URL of http or https leads.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http:// or https:// and a host")
    return parts.hostname, port


async def post(url: str, body: str, headers: dict[str, str], address: str) -> int:
    """POST to a URL at an address that was resolved before: the status. TLS checks the name in the URL.

    Raises:
        httpx.HTTPError: there was no answer.
        TimeoutError: it took too long.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    pinned = httpx.URL(url).copy_with(host=address)
    sent = {"host": parts.netloc.rpartition("@")[2], "content-type": "application/json", **headers}
    async with (
        asyncio.timeout(TIMEOUT),
        httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", pinned, content=body, headers=sent, extensions={"sni_hostname": host}) as response,
    ):
        return response.status_code
