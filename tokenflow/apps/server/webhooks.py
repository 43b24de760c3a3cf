"""Webhooks: signed as Standard Webhooks are (HMAC-SHA256 over id, timestamp and body), and sent until one arrives."""

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from collections import Counter
from collections.abc import Sequence

from anyio import CapacityLimiter, to_thread
from sqlalchemy import select, update
from starlette.concurrency import run_in_threadpool

from tokenflow.apps.server.database import Database, change
from tokenflow.apps.server.outbound import host_and_port, post, resolve_public
from tokenflow.apps.server.tables import Delivery

PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0, 6 * 3600.0)
"""Seconds before each repetition; then it is given up."""

INTERVAL = 0.5
"""Seconds between two looks at the database."""

AT_ONCE = 32
"""How many are sent at the same time."""

AT_ONCE_PER_KEY = 4
"""How many of one key, whose receivers may all be slow."""

RESOLVE_SECONDS = 10.0
"""Seconds for the address of a receiver."""

LEASE = 90.0
"""Seconds for which other servers leave a delivery alone: more than an attempt and its notes in the database take."""

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
        self._resolving = CapacityLimiter(AT_ONCE)
        self._under_way: dict[asyncio.Task[None], str] = {}

    async def run(self) -> None:
        """Send, each delivery in a task of its own, until cancelled."""
        try:
            while True:
                due = await run_in_threadpool(self._claim)
                for delivery in due:
                    task = asyncio.create_task(self._send(delivery))
                    self._under_way[task] = delivery.key_id
                    task.add_done_callback(self._under_way.pop)
                if not due:
                    await asyncio.sleep(INTERVAL)
        finally:
            for task in self._under_way:
                task.cancel()

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
        try:
            address = await self._resolve(*host_and_port(delivery.url))
            status = await post(delivery.url, delivery.body, headers, address)
            outcome, arrived = f"status {status}", 200 <= status < 300
        except Exception as error:  # whatever it is, it is this delivery's alone
            outcome, arrived = f"{type(error).__name__}: {error}"[:200], False
        try:
            await run_in_threadpool(self._settle, delivery, outcome, arrived)
        except Exception:
            log.exception("the outcome of webhook %s was not stored; it is sent again", delivery.id)

    async def _resolve(self, host: str, port: int) -> str:
        """In threads that nothing else needs: the system may take minutes to give up."""
        async with asyncio.timeout(RESOLVE_SECONDS):
            return await to_thread.run_sync(
                resolve_public, host, port, self._allow_private, limiter=self._resolving, abandon_on_cancel=True
            )

    def _claim(self) -> Sequence[Delivery]:
        """The deliveries that are due and may be sent now; other servers leave them alone while they are."""
        of_keys = Counter(self._under_way.values())
        free = AT_ONCE - of_keys.total()
        busy = [key for key, count in of_keys.items() if count >= AT_ONCE_PER_KEY]
        now = time.time()
        due = select(Delivery.id, Delivery.next_at, Delivery.key_id)
        due = due.where(Delivery.next_at <= now, Delivery.key_id.not_in(busy)).order_by(Delivery.next_at)
        with self._database.read() as session:
            found = session.execute(due.limit(free)).all()
        if not found:
            return []
        claimed = []
        with self._database.write() as session:
            for delivery_id, next_at, key_id in found:
                if of_keys[key_id] >= AT_ONCE_PER_KEY:
                    continue
                of_keys[key_id] += 1
                as_found = Delivery.id == delivery_id, Delivery.next_at == next_at
                values = {"next_at": now + LEASE, "attempts": Delivery.attempts + 1}
                if change(session, update(Delivery).where(*as_found).values(values)):
                    claimed.append(delivery_id)
            return session.scalars(
                select(Delivery).where(Delivery.id.in_(claimed)).execution_options(populate_existing=True)
            ).all()

    def _settle(self, delivery: Delivery, outcome: str, arrived: bool) -> None:
        repeats = not arrived and delivery.attempts <= len(PAUSES)
        next_at = time.time() + PAUSES[delivery.attempts - 1] if repeats else None
        with self._database.write() as session:
            ours = update(Delivery).where(Delivery.id == delivery.id, Delivery.next_at == delivery.next_at)
            session.execute(ours.values(next_at=next_at, outcome=outcome))
        log.info("webhook %s of %s: %s", delivery.id, delivery.video_id, outcome)
