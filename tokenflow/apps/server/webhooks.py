"""Webhooks: signed as Standard Webhooks are (HMAC-SHA256 over id, timestamp and body), and sent until one arrives."""

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx
from sqlalchemy import select, update
from starlette.concurrency import run_in_threadpool

from tokenflow.apps.server.database import Database, change
from tokenflow.apps.server.outbound import TIMEOUT, RefusedAddress, post, resolve_public
from tokenflow.apps.server.tables import Delivery

PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0, 6 * 3600.0)
"""Seconds before each repetition; then it is given up."""

INTERVAL = 0.5
"""Seconds between two looks at the database."""

AT_ONCE = 16
"""How many are sent at the same time."""

log = logging.getLogger(__name__)


def secret_of(master: bytes, key_id: str) -> str:
    """What the webhooks of a key are signed with; shown when the key is created."""
    drawn = hmac.digest(master, key_id.encode(), "sha256")
    return f"whsec_{base64.b64encode(drawn).decode()}"


def signature(secret: str, delivery: str, timestamp: int, body: str) -> str:
    """The header `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{delivery}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


class Webhooks:
    """Sends what is due.

    Args:
        database: with the deliveries.
        master: what the secrets are made from.
        allow_private: whether they may go to private addresses.
    """

    def __init__(self, database: Database, master: bytes, allow_private: bool) -> None:
        self._database, self._master, self._allow_private = database, master, allow_private

    async def run(self) -> None:
        """Send, until cancelled."""
        while True:
            due = await run_in_threadpool(self._claim)
            await asyncio.gather(*map(self._send, due))
            if not due:
                await asyncio.sleep(INTERVAL)

    async def _send(self, delivery: Delivery) -> None:
        """One attempt; a status of 2xx ends it."""
        timestamp = int(time.time())
        signed = signature(secret_of(self._master, delivery.key_id), delivery.id, timestamp, delivery.body)
        headers = {
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signed,
            "user-agent": "tokenflow",
        }
        parts = urlsplit(delivery.url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            host = parts.hostname or ""
            address = await run_in_threadpool(resolve_public, host, port, self._allow_private)
            status = await post(delivery.url, delivery.body, headers, address)
            outcome, arrived = f"status {status}", 200 <= status < 300
        except (httpx.HTTPError, RefusedAddress, ValueError) as error:
            outcome, arrived = f"{type(error).__name__}: {error}"[:200], False
        await run_in_threadpool(self._settle, delivery, outcome, arrived)

    def _claim(self) -> Sequence[Delivery]:
        """The deliveries that are due; others leave them alone for as long as an attempt may take."""
        now = time.time()
        due = select(Delivery.id, Delivery.next_at).where(Delivery.next_at <= now).order_by(Delivery.next_at)
        with self._database.read() as session:
            found = session.execute(due.limit(AT_ONCE)).all()
        if not found:
            return []
        claimed = []
        with self._database.write() as session:
            for delivery_id, next_at in found:
                as_found = Delivery.id == delivery_id, Delivery.next_at == next_at
                values = {"next_at": now + 2 * TIMEOUT, "attempts": Delivery.attempts + 1}
                if change(session, update(Delivery).where(*as_found).values(values)):
                    claimed.append(delivery_id)
            return session.scalars(
                select(Delivery).where(Delivery.id.in_(claimed)).execution_options(populate_existing=True)
            ).all()

    def _settle(self, delivery: Delivery, outcome: str, arrived: bool) -> None:
        repeats = not arrived and delivery.attempts <= len(PAUSES)
        next_at = time.time() + PAUSES[delivery.attempts - 1] if repeats else None
        with self._database.write() as session:
            values = {"next_at": next_at, "outcome": outcome}
            session.execute(update(Delivery).where(Delivery.id == delivery.id).values(values))
        log.info("webhook %s of %s: %s", delivery.id, delivery.video_id, outcome)
