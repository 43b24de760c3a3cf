"""A Ray cluster of the tests' own: one machine, started and killed with `ray start`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenflow.apps.ports import free_port

START_SECONDS = 60.0


@contextmanager
def cluster(has_own_token: bool = False, gpus: int = 1) -> Iterator[str]:
    """The address of a cluster that claims to have two CPUs and some GPUs.

    Without a token of its own it requires what this process sends: once a local Ray has run in it, that is a token.
    """
    port = free_port()
    folder = tempfile.mkdtemp(prefix="ray")  # not pytest's, whose paths are too long for sockets
    command = [
        *(Path(sys.executable).parent / "ray", "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2", f"--num-gpus={gpus}"),
        *("--include-dashboard=false", "--object-store-memory=100000000", f"--temp-dir={folder}"),
    ]
    usual = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled")}
    environment = os.environ | ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64} if has_own_token else usual)
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(port)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # a regular stop takes Ray half a minute
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def busy_workers() -> list[int]:
    """Descendants of this process in which Ray runs a job."""
    parents, running = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if b"ray::_Actor" in (folder / "cmdline").read_bytes():
                running.append(int(folder.name))
        except OSError:
            continue

    def is_ours(process: int) -> bool:
        return process == os.getpid() or (process in parents and is_ours(parents[process]))

    return [process for process in running if is_ours(process)]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the Ray cluster has not started")
