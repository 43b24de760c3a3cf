"""Figures for Prometheus: requests of this process, and what the database holds."""

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenflow.apps.server.database import Database
from tokenflow.apps.server.tables import COMPLETED, QUEUED, Delivery, Key, Video

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Requests:
    """Middleware that measures how long answers take to begin.

    Args:
        app: what it stands before.
        histogram: by method, route and status.
    """

    def __init__(self, app: ASGIApp, histogram: Histogram) -> None:
        self._app, self._histogram = app, histogram

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()

        async def send_measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                seconds = time.perf_counter() - begin
                self._histogram.labels(scope["method"], route, message["status"]).observe(seconds)
            await send(message)

        await self._app(scope, receive, send_measured)


class OfDatabase:
    """Collects what the database holds, when it is asked for.

    Args:
        database: with videos and keys.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        videos = GaugeMetricFamily("tokenflow_videos", "Videos by status and model", labels=["status", "model"])
        oldest = GaugeMetricFamily("tokenflow_queue_seconds", "How long the oldest queued video has waited")
        spent = GaugeMetricFamily("tokenflow_credits_spent", "Credits of completed videos")
        left = GaugeMetricFamily("tokenflow_credits_left", "Credits that keys have left")
        waiting = GaugeMetricFamily("tokenflow_webhooks_waiting", "Webhooks that have not arrived yet")
        with self._database.read() as session:
            by_state = select(Video.state, Video.model, func.count()).group_by(Video.state, Video.model)
            for state, model, count in session.execute(by_state):
                videos.add_metric([state, model], count)
            first = session.scalar(select(func.min(Video.created_at)).where(Video.state == QUEUED))
            oldest.add_metric([], 0.0 if first is None else max(0.0, time.time() - first))
            paid = Video.state == COMPLETED, Video.key_id.is_not(None)
            spent.add_metric([], session.scalar(select(func.coalesce(func.sum(Video.price), 0)).where(*paid)) or 0)
            left.add_metric([], session.scalar(select(func.coalesce(func.sum(Key.credits), 0))) or 0)
            not_sent = select(func.count()).where(Delivery.next_at.is_not(None))
            waiting.add_metric([], session.scalar(not_sent) or 0)
        return [videos, oldest, spent, left, waiting]


def new_registry(database: Database) -> tuple[CollectorRegistry, Histogram]:
    """Where figures are kept, and the histogram of requests."""
    registry = CollectorRegistry()
    registry.register(OfDatabase(database))
    names = ("method", "route", "status")
    histogram = Histogram(
        "tokenflow_request_seconds", "Until an answer begins", names, buckets=BUCKETS, registry=registry
    )
    return registry, histogram
