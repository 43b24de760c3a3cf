"""Webhooks: signed so that the official client verifies them, repeated until they arrive, never to private places."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from sqlalchemy import func, select

from tests.apps.server.test_credits import new_video
from tokenflow.apps.server import outbound, webhooks
from tokenflow.apps.server.database import BUSY_SECONDS, Database
from tokenflow.apps.server.keys import create_key
from tokenflow.apps.server.lifecycle import accept, claim, complete
from tokenflow.apps.server.outbound import RefusedAddress, is_public, post, resolve_public
from tokenflow.apps.server.tables import Delivery
from tokenflow.apps.server.webhooks import Webhooks, secret_of

pytestmark = pytest.mark.serve

MASTER = bytes(range(32))


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it receives, and answers with statuses in turn."""

    received: list[tuple[dict[str, str], str]]
    statuses: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.statuses.pop(0))
        self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    Receiver.received, Receiver.statuses = [], []
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def key_id(database: Database) -> str:
    return create_key(database, "bob", 100, None).split("_")[1]


def finish_one(database: Database, key_id: str, url: str, video_id: str = "v") -> None:
    with database.write() as session:
        video = new_video(video_id, key_id, cost=1)
        video.webhook_url = url
        accept(session, video)
        claim(session, "pool")
        complete(session, video_id, "pool", 1.0, None)


def deliver(database: Database, allow_private: bool = True, rounds: int = 1) -> Delivery:
    sender = Webhooks(database, MASTER, allow_private)

    async def send() -> None:
        for _ in range(rounds):
            with database.write() as session:
                for delivery in session.scalars(select(Delivery).where(Delivery.next_at.is_not(None))):
                    delivery.next_at = 1.0
            await asyncio.gather(*map(sender._send, sender._claim()))

    asyncio.run(send())
    with database.read() as session:
        return session.scalars(select(Delivery)).one()


def test_the_official_client_verifies_what_arrives(database: Database, key_id: str, receiver: HTTPServer) -> None:
    Receiver.statuses = [204]
    finish_one(database, key_id, f"http://127.0.0.1:{receiver.server_port}/done?job=1")
    delivery = deliver(database)
    assert (delivery.next_at, delivery.outcome, delivery.attempts) == (None, "status 204", 1)
    ((headers, body),) = Receiver.received
    assert json.loads(body)["data"] == {"id": "v", "status": "completed"}
    client = OpenAI(api_key="unused", webhook_secret=secret_of(MASTER, key_id))
    client.webhooks.verify_signature(body, headers)
    for wrong in (body.replace("completed", "failed"), body + " "):
        with pytest.raises(InvalidWebhookSignatureError):
            client.webhooks.verify_signature(wrong, headers)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body, headers, secret=secret_of(MASTER, "other"))


def test_it_is_repeated_until_it_arrives_and_redirects_are_not_followed(
    database: Database, key_id: str, receiver: HTTPServer
) -> None:
    Receiver.statuses = [500, 302, 200]
    finish_one(database, key_id, f"http://127.0.0.1:{receiver.server_port}/done")
    first = deliver(database)
    assert first.outcome == "status 500"
    assert first.next_at is not None
    last = deliver(database, rounds=2)
    assert (last.next_at, last.attempts) == (None, 3)
    assert len(Receiver.received) == 3
    assert len({headers["webhook-id"] for headers, _ in Receiver.received}) == 1


def test_it_is_given_up_after_some_attempts(database: Database, key_id: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    finish_one(database, key_id, f"http://127.0.0.1:{port}/")
    delivery = deliver(database, rounds=len(webhooks.PAUSES) + 1)
    assert delivery.next_at is None
    assert "ConnectError" in (delivery.outcome or "")


def test_private_addresses_are_refused(database: Database, key_id: str, receiver: HTTPServer) -> None:
    finish_one(database, key_id, f"http://127.0.0.1:{receiver.server_port}/")
    delivery = deliver(database, allow_private=False)
    assert "127.0.0.1, which is not a public address" in (delivery.outcome or "")
    assert Receiver.received == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        *((address, False) for address in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254")),
        *((address, False) for address in ("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1")),
        *((address, False) for address in ("fec0::1", "::7f00:1", "64:ff9b:1::a00:1", "2001:db8::1", "ff02::1")),
        *((address, False) for address in ("fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::")),
    ],
)
def test_addresses_of_the_internet_are_told_from_others(address: str, expected: bool) -> None:
    assert is_public(address) == expected


def test_a_name_with_any_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", ("8.8.8.8", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(outbound.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(RefusedAddress, match=r"example.org is at 10\.0\.0\.1"):
        resolve_public("example.org", 443, allow_private=False)


def test_the_address_that_was_checked_is_the_one_that_is_used(
    receiver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Receiver.statuses = [200]
    looked_up: list[str] = []
    usual = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **named: Any) -> Any:
        looked_up.append(host if isinstance(host, str) else host.decode())
        return usual(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = f"http://rebound.example:{receiver.server_port}/"
    assert asyncio.run(post(url, "{}", {}, "127.0.0.1")) == 200
    assert "rebound.example" not in looked_up
    assert Receiver.received[0][0]["host"] == f"rebound.example:{receiver.server_port}"
    with pytest.raises(httpx.HTTPError):
        asyncio.run(post(f"https://rebound.example:{receiver.server_port}/", "{}", {}, "127.0.0.1"))


@pytest.mark.parametrize(
    "receiver_url", ["http://[", "http://example.com/\x01", "http://example.com:0x1/", "http:///done"]
)
def test_an_address_that_cannot_be_parsed_is_settled(database: Database, key_id: str, receiver_url: str) -> None:
    finish_one(database, key_id, receiver_url)
    delivery = deliver(database, rounds=len(webhooks.PAUSES) + 1)
    assert delivery.next_at is None
    assert delivery.outcome


def test_a_slow_receiver_delays_no_other(
    database: Database, key_id: str, receiver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "TIMEOUT", 60.0)
    monkeypatch.setattr(webhooks, "INTERVAL", 0.01)
    Receiver.statuses = [204]
    other = create_key(database, "slow", 100, None).split("_")[1]

    async def until_it_arrived() -> None:
        task = asyncio.create_task(Webhooks(database, MASTER, allow_private=True).run())
        while not Receiver.received:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        for number in range(webhooks.AT_ONCE + 1):
            finish_one(database, other, f"http://127.0.0.1:{silent.getsockname()[1]}/", f"slow{number}")
        finish_one(database, key_id, f"http://127.0.0.1:{receiver.server_port}/")
        asyncio.run(asyncio.wait_for(until_it_arrived(), 30))
    with database.read() as session:
        tried = select(func.count()).where(Delivery.key_id == other, Delivery.attempts > 0)
        assert session.scalar(tried) == webhooks.AT_ONCE_PER_KEY


def test_an_attempt_ends_in_time_and_is_not_sent_by_two(
    database: Database, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        finish_one(database, key_id, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert len(Webhooks(database, MASTER, True)._claim()) == 1
        assert Webhooks(database, MASTER, True)._claim() == []
        assert "TimeoutError" in (deliver(database).outcome or "")
    assert outbound.TIMEOUT + webhooks.RESOLVE_SECONDS + BUSY_SECONDS < webhooks.LEASE
