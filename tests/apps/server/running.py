"""`tokenflow serve` as a process of the tests'."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from tokenflow.apps.ports import free_port

PATIENCE = 900.0
"""Seconds: a busy machine takes minutes until a server, its pool and a cluster's worker have imported torch."""


def until(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise TimeoutError


class Running:
    """The process, which can be killed and started again."""

    def __init__(self, url: str, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-m", "tokenflow", "serve", "--port", str(self.port), "--database", url]
        self._command += ["--data", str(folder / "service"), "--config", str(folder / "server.yaml"), "--workers", "1"]
        self._command += options
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    @property
    def is_ready(self) -> bool:
        try:
            return self.client("").get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def client(self, key: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is not None:
            return
        children = self.children()
        self.process.terminate()
        self.process.wait(PATIENCE)
        psutil.wait_procs(children, PATIENCE)
        assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        self._log.close()


@contextmanager
def started(content: dict[str, Any], folder: Path, url: str, *options: str) -> Iterator[Running]:
    """The service with these settings, until the end of the block."""
    (folder / "server.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    running = Running(url, folder, *options)
    try:
        yield running
        running.stop()
    finally:
        if running.process.poll() is None:
            for child in running.children():
                child.kill()
            running.kill()
