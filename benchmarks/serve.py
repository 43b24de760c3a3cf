"""The service under load and under faults: how soon it answers while workers edit, and what kills leave behind.

`tokenflow serve` runs as a user runs it, with the bundled model and a clip of few frames. First, clients at once each
send the clip, follow it by polling or by the event stream, and fetch the result. Then processes of the service are
killed at random while clips are sent; all that was accepted must end, and the credits must add up.
"""

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import yaml

from benchmarks.output import write_json
from tokenflow.apps.ports import free_port
from tokenflow.apps.server.commands import open_state
from tokenflow.apps.server.credits import balance
from tokenflow.apps.server.keys import create_key
from tokenflow.apps.server.tables import Key
from tokenflow.video import VideoWriter, read_frames

RESULTS = Path("benchmarks/results/serve.json")
CREDITS = 1_000_000
FRAMES = 4
STEPS = 2
POLL_SECONDS = 2.0
KILL_SECONDS = 0.5, 4.0
"""Between two kills, at random."""

SHARE_OF_SERVER = 0.2
"""Of the kills; all others are of workers."""

SHARE_OF_REMIXES = 0.8
"""Of what is sent while processes are killed; all else is uploads, which take longer to accept."""

SEND_SECONDS = 1.5

ENDED = ("completed", "failed", "cancelled")


class Service:
    """`tokenflow serve` on a folder, as a process."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.port = free_port()
        self.folder = folder / "service"
        settings = folder / "server.yaml"
        variant = {
            "model": "data/models/mini-sd",
            "preset": "fast",
            "credits": 100,
            "settings": {"inversion": {"steps": STEPS, "check": False}, "edit": {"steps": STEPS}, "clip": {"size": 64}},
        }
        settings.write_text(yaml.safe_dump({"variants": {"fast": variant}, "waiting": 10_000, "page": False}))
        self._command = [
            sys.executable,
            "-m",
            "tokenflow",
            "serve",
            "--port",
            str(self.port),
            "--config",
            str(settings),
        ]
        self._command += ["--data", str(self.folder), "--workers", str(workers)]
        self._log = (folder / "log").open("ab")
        database, _ = open_state(self.folder, None)
        self.key = create_key(database, "load", CREDITS, None)
        database.close()
        self.start()

    def start(self) -> None:
        """Start it."""
        self.process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def client(self) -> httpx.AsyncClient:
        """A client with a key."""
        headers = {"authorization": f"Bearer {self.key}"}
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=120, limits=limits, trust_env=False
        )


def workers_of(server: int) -> list[psutil.Process]:
    """The processes that edit for a server, which is given by its number."""
    found: list[psutil.Process] = []
    with suppress(psutil.Error):  # some of them are ending
        for child in psutil.Process(server).children():
            if "tokenflow.apps.server.pool" in child.cmdline():
                for helper in child.children():  # on Linux they are forked from one, see batch/local.py
                    found += helper.children() or ([helper] if "spawn_main" in " ".join(helper.cmdline()) else [])
    return found


class Log:
    """Statuses and seconds of the requests of a load, by kind; and the load generator's own lag."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.statuses: Counter[int] = Counter()
        self.lag: list[float] = []

    async def timed(self, kind: str, request: Any) -> httpx.Response:
        """A request, with how long it took."""
        begin = time.perf_counter()
        answer: httpx.Response = await request
        self.seconds.setdefault(kind, []).append(time.perf_counter() - begin)
        self.statuses[answer.status_code] += 1
        return answer

    async def measure_lag(self) -> None:
        """How late this process wakes up: what it adds to every other figure."""
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.05)
            self.lag.append(time.perf_counter() - begin - 0.05)


async def ready(client: httpx.AsyncClient, seconds: float = 180) -> None:
    """Return once the service is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if (await client.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.2)
    raise TimeoutError("the service is not ready")


async def one_client(number: int, client: httpx.AsyncClient, clip: bytes, log: Log) -> str:
    """Send the clip, follow it, fetch the result: how it ended."""
    await asyncio.sleep(random.random() * 10)
    sent = client.post("/v1/videos", files={"video": ("clip.mp4", clip)}, data={"prompt": "a tiger on grass"})
    answer = await log.timed("upload", sent)
    if answer.status_code != 202:
        return f"status {answer.status_code}"
    address = f"/v1/videos/{answer.json()['id']}"
    if number % 4 == 0:
        async with client.stream("GET", f"{address}/events", timeout=600) as stream:
            log.statuses[stream.status_code] += 1
            async for _ in stream.aiter_lines():
                pass
    while True:
        shown = (await log.timed("poll", client.get(address))).json()
        if shown["status"] in ENDED:
            break
        await asyncio.sleep(POLL_SECONDS * (0.5 + random.random()))
    await log.timed("content", client.get(f"{address}/content"))
    return str(shown["status"])


async def load(service: Service, clients: int, clip: bytes) -> dict[str, Any]:
    """Many clients at once."""
    log = Log()
    async with service.client() as client:
        await ready(client)
        await one_client(1, client, clip, Log())  # the model is loaded, and what looks at uploads is running
        lag = asyncio.create_task(log.measure_lag())
        begin = time.perf_counter()
        ends = Counter(await asyncio.gather(*(one_client(number, client, clip, log) for number in range(clients))))
        seconds = time.perf_counter() - begin
        lag.cancel()
    return {
        "clients": clients,
        "seconds": round(seconds, 1),
        "ended": dict(ends),
        "statuses": {str(status): count for status, count in sorted(log.statuses.items())},
        "server_errors": sum(count for status, count in log.statuses.items() if status >= 500),
        "milliseconds": {kind: percentiles(values) for kind, values in log.seconds.items()},
        "lag_milliseconds": percentiles(log.lag),
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """How many, median, 99th percentile and maximum, in milliseconds."""
    values = 1000 * np.array(seconds)
    found = {"p50": np.percentile(values, 50), "p99": np.percentile(values, 99), "max": values.max()}
    return {"count": len(values), **{name: round(float(value), 1) for name, value in found.items()}}


async def faults(service: Service, kills: int, clip: bytes) -> dict[str, Any]:
    """Kill processes at random while clips are sent, then wait until all that was accepted has ended."""
    accepted: list[str] = []
    killed: Counter[str] = Counter()
    stopped = asyncio.Event()

    async def send() -> None:
        while not stopped.is_set():
            with suppress(httpx.HTTPError):
                if accepted and random.random() < SHARE_OF_REMIXES:
                    asked = {"prompt": "a cat on grass", "seed": len(accepted)}
                    answer = await client.post(f"/v1/videos/{accepted[0]}/remix", json=asked)
                else:
                    data = {"prompt": "a tiger on grass"}
                    answer = await client.post("/v1/videos", files={"video": ("clip.mp4", clip)}, data=data)
                if answer.status_code == 202:
                    accepted.append(answer.json()["id"])
            await asyncio.sleep(SEND_SECONDS)

    begin = time.perf_counter()
    async with service.client() as client:
        await ready(client)
        first = await client.post("/v1/videos", files={"video": ("clip.mp4", clip)}, data={"prompt": "a tiger"})
        accepted.append(first.json()["id"])
        sender = asyncio.create_task(send())
        while killed.total() < kills:
            await asyncio.sleep(random.uniform(*KILL_SECONDS))
            if random.random() < SHARE_OF_SERVER:
                service.process.kill()
                service.process.wait()
                killed["server"] += 1
                service.start()
            elif workers := workers_of(service.process.pid):
                with suppress(psutil.Error):
                    random.choice(workers).kill()
                    killed["worker"] += 1
        stopped.set()
        await sender
        await ready(client)
        ends: Counter[str] = Counter()
        for video_id in accepted:
            while (shown := (await client.get(f"/v1/videos/{video_id}")).json())["status"] not in ENDED:
                await asyncio.sleep(0.5)
            ends[shown["status"]] += 1
    return {
        "kills": dict(killed),
        "accepted": len(accepted),
        "ended": dict(ends),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def credits_add_up(service: Service) -> dict[str, Any]:
    """Whether granted = left + held + spent, and the balance is that of the entries."""
    database, _ = open_state(service.folder, None)
    with database.read() as session:
        key = session.get_one(Key, service.key.split("_")[1])
        found = balance(session, key.id)
    database.close()
    adds_up = found.granted == found.left + found.held + found.spent and key.credits == found.left and not found.held
    return {"granted": found.granted, "left": found.left, "spent": found.spent, "add_up": adds_up}


def tiny_clip(folder: Path) -> bytes:
    """The first frames of a bundled clip."""
    frames = read_frames(Path("data/clips/dog_walk.mp4"), frames=FRAMES)
    path = folder / "clip.mp4"
    with VideoWriter(path, width=128, height=128, rate=12) as video:
        for frame in frames:
            video.write(frame.image)
    return path.read_bytes()


def table(found: dict[str, Any]) -> list[str]:
    """The result as lines."""
    loaded, broken = found["load"], found["faults"]
    lines = [f"{loaded['clients']} clients in {loaded['seconds']} s: {loaded['ended']}, statuses {loaded['statuses']}"]
    lines.append(f"{'milliseconds':<14}{'count':>8}{'p50':>8}{'p99':>8}{'max':>9}")
    kinds = {**loaded["milliseconds"], "own lag": loaded["lag_milliseconds"]}
    lines += [
        f"{kind:<14}{row['count']:>8}{row['p50']:>8}{row['p99']:>8}{row['max']:>9}" for kind, row in kinds.items()
    ]
    lines.append(f"{broken['kills']} killed in {broken['seconds']} s: {broken['accepted']} accepted, {broken['ended']}")
    lines.append(f"credits {found['credits']}")
    return lines


def shortcomings(found: dict[str, Any]) -> list[str]:
    """What must not be: answers of 5xx, edits that did not complete, credits that do not add up."""
    loaded, broken = found["load"], found["faults"]
    wrong = []
    if loaded["server_errors"]:
        wrong.append(f"{loaded['server_errors']} answers were a 5xx")
    if loaded["ended"] != {"completed": loaded["clients"]}:
        wrong.append(f"of {loaded['clients']} edits under load not all were completed: {loaded['ended']}")
    if broken["ended"] != {"completed": broken["accepted"]}:
        wrong.append(f"of {broken['accepted']} edits under faults not all were completed: {broken['ended']}")
    if not found["credits"]["add_up"]:
        wrong.append(f"the credits do not add up: {found['credits']}")
    return wrong


def main() -> None:
    """Run both parts, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="serve") as name:
        folder = Path(name)
        clip = tiny_clip(folder)
        service = Service(folder, options.workers)
        try:
            found: dict[str, Any] = {"load": asyncio.run(load(service, options.clients, clip))}
            found["faults"] = asyncio.run(faults(service, options.kills, clip))
        finally:
            service.stop()
        found["credits"] = credits_add_up(service)
    print("\n".join(table(found)))
    write_json(RESULTS, found)
    if wrong := shortcomings(found):
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
