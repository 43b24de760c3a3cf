"""Requests to addresses that clients name: only to public ones, resolved once and then pinned, without redirects."""

import ipaddress
import socket
from urllib.parse import urlsplit

import httpx

TIMEOUT = 10.0
"""Seconds for a request."""


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
        inner = [parsed.ipv4_mapped, parsed.sixtofour, *(parsed.teredo or ())]
        if any(each is not None and not is_public(str(each)) for each in inner):
            return False
        if parsed in ipaddress.ip_network("64:ff9b::/96"):  # NAT64 leads to the IPv4 address in its last bytes
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed.is_global and not parsed.is_multicast


async def post(url: str, body: str, headers: dict[str, str], address: str) -> int:
    """POST to a URL at an address that was resolved before: the status. TLS checks the name in the URL.

    Raises:
        httpx.HTTPError: there was no answer.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    pinned = httpx.URL(url).copy_with(host=address)
    sent = {"host": parts.netloc.rpartition("@")[2], "content-type": "application/json", **headers}
    async with (
        httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", pinned, content=body, headers=sent, extensions={"sni_hostname": host}) as response,
    ):
        return response.status_code
