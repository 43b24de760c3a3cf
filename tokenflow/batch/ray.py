"""Jobs on Ray (Moritz et al., OSDI 2018): a local one that is started and stopped, or a cluster that is joined.

A worker is a Ray actor, which holds its model. Ray decides where actors run, restarts them when their process or
machine dies, and repeats their job. The machines of a cluster have to see the same files under the same paths.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from tokenflow.batch.engine import PATIENCE, Listed, Observer, Supply
from tokenflow.batch.jobs import Job
from tokenflow.batch.throttle import throttled
from tokenflow.batch.worker import CANCELLED, JobResult, Worker, limit_threads
from tokenflow.config import Config
from tokenflow.errors import Cancelled, EngineError
from tokenflow.events import Event

POLL_INTERVAL = 0.5
"""Seconds between two requests for a job's events."""

CONNECT_TIMEOUT = 5.0
"""Seconds in which a cluster has to answer."""

JOIN_TIMEOUT = 180.0
"""Seconds in which a program has to start and be accepted by a cluster; on a busy machine it starts in a minute."""

OBJECT_STORE_BYTES = 100 * 2**20
"""Memory that a local Ray reserves for the values passed around: here only settings, events and figures."""


class Ray:
    """Jobs as calls to Ray actors.

    Args:
        workers: maximum number of actors; None for as many as the GPUs allow, or one per machine without GPUs.
        retries: how often Ray starts a job over after its process or machine died.
        address: of a cluster (`host:port`, `ray://host:port`, or `auto` for the one this machine belongs to); None
            starts a local Ray, or uses the one that this process has already started.
        gpus: GPUs per actor, which may be a fraction; None for one where there are GPUs.
        preview_every: send a `Preview` every so many steps; None for none.

    Raises:
        EngineError: Ray is not installed.
    """

    def __init__(
        self,
        workers: int | None,
        retries: int,
        address: str | None,
        gpus: float | None,
        preview_every: int | None = None,
    ) -> None:
        self._workers, self._retries, self._address, self._gpus = workers, retries, address, gpus
        self._preview_every = preview_every
        try:
            import ray
        except ImportError as error:
            raise EngineError(
                "the engine ray needs Ray, which is not installed; run `pip install 'tokenflow[ray]'`, or use the "
                "local engine"
            ) from error
        self._ray = ray

    def run(self, jobs: Sequence[Job], observer: Observer) -> None:
        """Run every job (see `Engine.run`)."""
        self._serve(Listed(jobs), observer, len(jobs))

    def serve(self, supply: Supply, observer: Observer) -> None:
        """Run jobs as they come (see `LastingEngine.serve`)."""
        self._serve(supply, observer, None)

    def _serve(self, supply: Supply, observer: Observer, job_count: int | None) -> None:
        with self._connected():
            actors = self._create_actors(job_count)
            try:
                _Calls(self._ray, actors, observer).run(supply)
            finally:
                for actor in actors:
                    self._ray.kill(actor)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        if self._ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray reports every local start to its makers
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            options |= {"num_cpus": max(os.cpu_count() or 1, self._workers or 1), "include_dashboard": False}
            options |= {"object_store_memory": OBJECT_STORE_BYTES, "address": "local"}  # else it joins a running one
        else:
            _check_reachable(self._address)
            _check_joinable(self._address)
            options |= {"address": self._address}
        try:
            with _kept_sigterm():
                self._ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = "a local Ray cannot be started" if self._address is None else f"no Ray cluster at {self._address!r}"
            raise EngineError(
                f"{where} ({' '.join(str(error).split())}); check the address, or `ray status`"
            ) from error
        try:
            yield
        finally:
            self._ray.shutdown()

    def _create_actors(self, job_count: int | None) -> list[Any]:
        """Workers for the jobs, whose number may be unknown, each with its share of the cluster.

        Ray starts those that do not fit yet later.
        """
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not nodes:
            raise EngineError("the Ray cluster has no machine with a CPU for workers; add one with `ray start`")
        available = sum(node.get("GPU", 0.0) for node in nodes)
        gpus = self._gpus if self._gpus is not None else float(available > 0)
        if gpus > max(node.get("GPU", 0.0) for node in nodes):
            raise EngineError(f"no machine of the Ray cluster has {gpus:g} GPUs for a worker; ask for fewer")
        most = self._workers or (int(available / gpus) if gpus else len(nodes))
        count = most if job_count is None else min(job_count, most)
        cpus = max(1, int(min(node["CPU"] for node in nodes)) // -(-count // len(nodes)))
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": self._retries}
        actor_class = self._ray.remote(**options, max_concurrency=2)(_Actor)
        return [actor_class.remote(Path.cwd(), cpus, self._preview_every) for _ in range(count)]


class _Calls:
    """The calls to actors in progress, and what to do when one returns."""

    def __init__(self, ray: Any, actors: Sequence[Any], observer: Observer) -> None:
        self._ray, self._actors, self._observer = ray, actors, observer
        self._starting = {actor.ready.remote(): index for index, actor in enumerate(actors)}
        self._free: list[int] = []
        self._running: dict[Any, tuple[int, Job]] = {}
        self._requests: dict[int, Any] = {}
        """Pending requests for events, by actor."""

    def run(self, supply: Supply) -> None:
        """Give each actor that is ready the next job, until the supply is closed and all are done."""
        try:
            while supply.is_open or self._running:
                self._free += self._wait_for_free()
                while self._free and (job := supply.take()) is not None:
                    self._start(job, self._free.pop(0))
                for index, job in self._running.values():
                    if supply.is_cancelled(job):
                        self._actors[index].cancel.remote()
                self._poll()
        finally:
            self._stop()

    def _start(self, job: Job, index: int) -> None:
        self._observer.on_start(job, index)
        self._running[self._actors[index].run.remote(job.config)] = index, job

    def _wait_for_free(self) -> list[int]:
        """Wait for a moment, and return the actors that have since started up or finished a job."""
        calls = [*self._starting, *self._running]
        if not calls:
            time.sleep(POLL_INTERVAL)
            return []
        returned, _ = self._ray.wait(calls, num_returns=1, timeout=POLL_INTERVAL)
        free = []
        for call in returned:
            if call in self._starting:
                index = self._starting.pop(call)
                self._check_start(call)
            else:
                index, job = self._running.pop(call)
                self._finish(job, index, call)
            free.append(index)
        return free

    def _check_start(self, call: Any) -> None:
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"a Ray worker could not start ({_last_line(error)}); every machine of the cluster needs tokenflow "
                f"installed, and the same folder {Path.cwd()} as this one"
            ) from error

    def _finish(self, job: Job, index: int, call: Any) -> None:
        """Report the last events of a job, and how it ended."""
        if index in self._requests:
            self._report(job, index)
        try:
            result, events = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            events = ()
            result = JobResult(
                reason=f"its Ray worker died each time ({_last_line(error)}); if memory ran out, try fewer workers "
                "or a smaller batch_size"
            )
        for event in events:
            self._observer.on_event(job, index, event)
        self._observer.on_finish(job, index, result)

    def _poll(self) -> None:
        """Report the events that actors have answered with, and request more."""
        for index, job in list(self._running.values()):
            request = self._requests.get(index)
            if request is not None and self._ray.wait([request], timeout=0)[0]:
                self._report(job, index)
            if index not in self._requests:
                self._requests[index] = self._actors[index].events.options(max_task_retries=0).remote()

    def _report(self, job: Job, index: int) -> None:
        """Report the events of a request."""
        events: Sequence[Event] = ()
        with suppress(self._ray.exceptions.RayError):  # the actor has died or does not answer; Ray sees to it
            events = self._ray.get(self._requests.pop(index), timeout=POLL_INTERVAL)
        for event in events:
            self._observer.on_event(job, index, event)

    def _stop(self) -> None:
        """Stop running jobs before their next network call, so that nothing is left half done."""
        for index, _ in self._running.values():
            self._actors[index].stop.remote()
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE)


class _Actor:
    """A worker in a process of Ray's. While one call runs a job, others fetch its events or stop it."""

    def __init__(self, directory: Path, threads: int, preview_every: int | None) -> None:
        os.chdir(directory)  # paths in configurations are relative to it
        self._threads = threads
        self._worker = Worker(preview_every)
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._stopped, self._cancelled = threading.Event(), threading.Event()

    def ready(self) -> None:
        """Returns once the actor is there."""

    def run(self, config: Config) -> tuple[JobResult, list[Event]]:
        """Run a job; also returns the events that `events` has not returned yet."""
        limit_threads(self._threads)  # of this call's thread, one of several that Ray keeps
        self._cancelled.clear()
        try:
            result = self._worker.run(config, throttled(self._events.put), cancel=self._is_asked_to_end)
        except Cancelled:  # by `cancel`, or by `stop`, whose caller ignores the result
            result = CANCELLED
        return result, self.events()

    def _is_asked_to_end(self) -> bool:
        return self._stopped.is_set() or self._cancelled.is_set()

    def events(self) -> list[Event]:
        """The events since the last call."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def cancel(self) -> None:
        """Stop the job before its next network call; others may follow."""
        self._cancelled.set()

    def stop(self) -> None:
        """Stop the job before its next network call, and take no more."""
        self._stopped.set()


@contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Keep what this program does on SIGTERM: Ray sets a handler below Python's, which ends the process at once."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_reachable(address: str) -> None:
    """Connect once, as Ray itself tries for minutes."""
    if address in ("auto", "local"):
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        if parts.hostname is None or parts.port is None:
            raise ValueError("not of the form host:port")
        socket.create_connection((parts.hostname, parts.port), CONNECT_TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"the Ray cluster at {address!r} cannot be reached ({error}); expected host:port, ray://host:port or auto: "
            "check the address, and that `ray start --head` is running there"
        ) from error


def _check_joinable(address: str) -> None:
    """Join and leave in another process: Ray has no timeout for it, and only prints why it failed."""
    join = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False)"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", join, address], capture_output=True, text=True, timeout=JOIN_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"there was no answer from a Ray cluster at {address!r} within {JOIN_TIMEOUT:g} s; check the address: its "
            "port is that of `ray start --head`, not of the dashboard"
        ) from error
    if not tried.returncode:
        return
    if "InvalidAuthToken" in tried.stderr or "AuthenticationError" in tried.stderr:
        raise EngineError(
            f"the Ray cluster at {address!r} requires a token; set RAY_AUTH_MODE=token, and copy the token from its "
            "machine to ~/.ray/auth_token"
        )
    raise EngineError(
        f"the Ray cluster at {address!r} cannot be joined ({_last_line(tried.stderr)}); check the address, or "
        "`ray status`"
    )


def _last_line(error: object) -> str:
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]
