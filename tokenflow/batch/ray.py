"""Jobs on Ray (Moritz et al., OSDI 2018): on a local one that is started and stopped, or on a cluster that is joined.

A worker is a Ray actor, which holds its model. Where actors run, that they start again when their process or machine
dies, and how often they begin a job again, is Ray's business. The machines of a cluster have to see the same files
under the same paths.
"""

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from tokenflow.batch.engine import PATIENCE, Observer
from tokenflow.batch.jobs import Job
from tokenflow.batch.worker import JobResult, Worker
from tokenflow.config import Config
from tokenflow.errors import Cancelled, EngineError
from tokenflow.events import Event, Progress

POLL = 0.5
"""Seconds between two questions of how far the jobs are."""

REACHABLE_WITHIN = 5.0
"""Seconds in which a cluster has to answer."""

JOINED_WITHIN = 60.0
"""Seconds in which a program that joins the cluster has to be let in."""

OBJECT_STORE = 100 * 2**20
"""Bytes of memory that a local Ray sets aside for what is passed around: here, settings and figures only."""


class Ray:
    """Jobs as calls to Ray actors.

    Args:
        workers: how many actors; None for one a GPU share, or one a machine where there is no GPU.
        retries: how often Ray begins a job again when its process or machine dies.
        address: of a cluster (`host:port`, `ray://host:port`, or `auto` for the one this machine belongs to); None
            starts a local Ray, or uses the one that this process has started already.
        gpus: how many an actor takes, also a fraction; None for one where there are GPUs.

    Raises:
        EngineError: Ray is not installed.
    """

    def __init__(self, workers: int | None, retries: int, address: str | None, gpus: float | None) -> None:
        self._workers, self._retries, self._address, self._gpus = workers, retries, address, gpus
        try:
            import ray
        except ImportError as error:
            raise EngineError(
                "the engine ray needs Ray, which is not installed; run `pip install 'tokenflow[ray]'`, "
                "or use the engine local"
            ) from error
        self._ray = ray

    def run(self, jobs: Sequence[Job], watcher: Observer) -> None:
        """Run every job (see `Engine.run`)."""
        with self._connected():
            actors = self._actors(len(jobs))
            try:
                _Calls(self._ray, actors, watcher).run(jobs)
            finally:
                for actor in actors:
                    self._ray.kill(actor)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        if self._ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers of every local start
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            options |= {"num_cpus": max(os.cpu_count() or 1, self._workers or 1), "include_dashboard": False}
            options |= {"object_store_memory": OBJECT_STORE, "address": "local"}  # else it joins what was here before
        else:
            _check_reachable(self._address)
            _check_joinable(self._address)
            options |= {"address": self._address}
        try:
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

    def _actors(self, job_count: int) -> list[Any]:
        """Workers for the jobs, each with its part of the cluster; those that do not fit yet are waited for by Ray."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not nodes:
            raise EngineError("the Ray cluster has no machine with a CPU for workers; add one with `ray start`")
        there = sum(node.get("GPU", 0.0) for node in nodes)
        gpus = self._gpus if self._gpus is not None else float(there > 0)
        if gpus > max(node.get("GPU", 0.0) for node in nodes):
            raise EngineError(f"no machine of the Ray cluster has {gpus:g} GPUs for a worker; ask for fewer")
        count = min(job_count, self._workers or (int(there / gpus) if gpus else len(nodes)))
        cpus = max(1, int(min(node["CPU"] for node in nodes)) // -(-count // len(nodes)))
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": self._retries}
        actor_class = self._ray.remote(**options, max_concurrency=2)(_Actor)
        return [actor_class.remote(Path.cwd(), cpus) for _ in range(count)]


class _Calls:
    """The calls to actors that are under way, and what to do when one returns."""

    def __init__(self, ray: Any, actors: Sequence[Any], watcher: Observer) -> None:
        self._ray, self._actors, self._watcher = ray, actors, watcher
        self._starting = {actor.ready.remote(): index for index, actor in enumerate(actors)}
        self._running: dict[Any, tuple[int, Job]] = {}
        self._asked: dict[Any, int] = {}

    def run(self, jobs: Sequence[Job]) -> None:
        """Give each actor that is ready the next job, until all are done."""
        waiting = deque(jobs)
        try:
            while waiting or self._running:
                for index in self._free():
                    if waiting:
                        self._begin(waiting.popleft(), index)
                self._ask()
        finally:
            self._stop()

    def _begin(self, job: Job, index: int) -> None:
        self._watcher.started(job, index)
        self._running[self._actors[index].run.remote(job.config)] = index, job

    def _free(self) -> list[int]:
        """Wait a little, and give the actors that have started or finished a job since."""
        calls = [*self._starting, *self._running]
        returned, _ = self._ray.wait(calls, num_returns=1, timeout=POLL)
        free = []
        for call in returned:
            if call in self._starting:
                index = self._starting.pop(call)
                self._check_start(call)
            else:
                index, job = self._running.pop(call)
                self._watcher.finished(job, index, self._outcome(call))
            free.append(index)
        return free

    def _check_start(self, call: Any) -> None:
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"a Ray worker could not start ({_last_line(error)}); every machine of the cluster needs tokenflow "
                f"installed, and to see {Path.cwd()} as this one does"
            ) from error

    def _outcome(self, call: Any) -> JobResult:
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            return JobResult(
                reason=f"its Ray worker died each time ({_last_line(error)}); if memory ran out, try fewer workers "
                "or a smaller batch_size"
            )

    def _ask(self) -> None:
        """Pass on how far jobs are, as far as the actors have answered, and ask those that have."""
        answered = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)[0] if self._asked else []
        for call in answered:
            index = self._asked.pop(call)
            with suppress(self._ray.exceptions.RayError):  # it has died; Ray starts it again
                if event := self._ray.get(call):
                    self._watcher.progressed(index, event)
        for index, _ in self._running.values():
            if index not in self._asked.values():
                self._asked[self._actors[index].progress.options(max_task_retries=0).remote()] = index

    def _stop(self) -> None:
        """Let actors end what they are at without leaving anything half done."""
        for index, _ in self._running.values():
            self._actors[index].stop.remote()
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE)


class _Actor:
    """A worker in a process of Ray's: one call runs, another may ask how far it is, or stop it."""

    def __init__(self, directory: Path, threads: int) -> None:
        os.chdir(directory)  # paths in configurations are relative to it
        self._threads = threads
        self._worker = Worker()
        self._told: Progress | None = None

    def ready(self) -> None:
        """Returns once the actor is there."""

    def run(self, config: Config) -> JobResult:
        """Do a job."""
        torch.set_num_threads(self._threads)  # of this call's thread, of which Ray keeps several
        try:
            return self._worker.run(config, self._listen)
        except Cancelled:  # by `stop`; nobody waits for the outcome
            return JobResult(reason="interrupted")

    def progress(self) -> Progress | None:
        """How far the job is."""
        return self._told

    def stop(self) -> None:
        """End the job at its next step."""
        self._worker.stop()

    def _listen(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._told = event


def _check_reachable(address: str) -> None:
    """Ray itself tries an address for minutes."""
    if address in ("auto", "local"):
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        if place.hostname is None or place.port is None:
            raise ValueError("not of the form host:port")
        socket.create_connection((place.hostname, place.port), REACHABLE_WITHIN).close()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"the Ray cluster at {address!r} cannot be reached ({error}); expected host:port, ray://host:port or auto: "
            "check the address, and that `ray start --head` runs there"
        ) from error


def _check_joinable(address: str) -> None:
    """Join in another process and leave again: Ray has no deadline for it, and only prints why it failed."""
    join = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False)"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", join, address], capture_output=True, text=True, timeout=JOINED_WITHIN
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"what is at {address!r} does not answer as a Ray cluster does, within {JOINED_WITHIN:g} s; check the "
            "address: its port is that of `ray start --head`, not of the dashboard"
        ) from error
    if not tried.returncode:
        return
    if "InvalidAuthToken" in tried.stderr or "AuthenticationError" in tried.stderr:
        raise EngineError(
            f"the Ray cluster at {address!r} asks for a token; set RAY_AUTH_MODE=token, and have the token that its "
            "machine has in ~/.ray/auth_token"
        )
    raise EngineError(
        f"the Ray cluster at {address!r} cannot be joined ({_last_line(tried.stderr)}); check the address, or "
        "`ray status`"
    )


def _last_line(error: object) -> str:
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]
