"""edit_many on a real Ray on this machine, and its errors where there is none."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tokenflow
from tests import ray_cluster
from tests.batch.conftest import Configure
from tests.batch.test_run import run, states, videos
from tests.ray_cluster import busy_workers
from tokenflow.apps.ports import free_port
from tokenflow.batch import ray as engine
from tokenflow.config import Config
from tokenflow.errors import EngineError
from tokenflow.events import Event, Notice, Progress

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def ray_is_shut_down() -> Iterator[None]:
    yield
    running = ray.is_initialized()
    ray.shutdown()
    assert not running


def kill_busy_worker(config: Config, killed: list[int]) -> None:
    """Kill a worker as soon as this job has started."""
    deadline = time.monotonic() + 60
    while not killed and time.monotonic() < deadline:
        if (config.output.dir / ".tokenflow-partial").exists():
            for process in busy_workers()[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
        time.sleep(0.005)


def test_a_local_ray_gives_the_same_results_even_if_a_worker_is_killed(configure: Configure, tmp_path: Path) -> None:
    undisturbed = configure(2, 2, folder=tmp_path / "undisturbed")
    # Also on Ray, as sums over another number of threads round differently.
    run(undisturbed, tmp_path / "undisturbed", engine="ray", workers=1)
    configs = configure(2, 2)
    killed: list[int] = []
    killer = threading.Thread(target=kill_busy_worker, args=(configs[0], killed))
    killer.start()
    records = run(configs, tmp_path, engine="ray", workers=1)
    killer.join()
    assert killed
    assert states(records) == ["done"] * 4
    assert videos(configs) == videos(undisturbed)


@pytest.fixture(params=[False])
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a cluster; the parameter is whether it requires a token of its own."""
    with ray_cluster.cluster(has_own_token=request.param) as address:
        yield address


def test_a_cluster_is_joined_by_its_address_and_its_gpus_are_shared(
    cluster: str, configure: Configure, tmp_path: Path
) -> None:
    broken = configure(1, 1, "edit.steps=5000", f"output.dir={tmp_path / 'broken'}")  # past training
    records = run([*configure(1, 1), *broken], tmp_path, engine="ray", address=cluster, workers=1, gpus=0.5)
    assert states(records) == ["done", "failed"]
    assert "steps is 5000" in (records[1].reason or "")
    with pytest.raises(EngineError, match="no machine of the Ray cluster has 2 GPUs"):
        run(configure(1, 2), tmp_path, engine="ray", address=cluster, gpus=2)


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "nonsense"])
def test_an_unreachable_cluster_is_an_error_before_any_work(address: str, configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cluster at '.*' cannot be reached .*: check the address"):
        run(configure(1, 1), tmp_path, engine="ray", address=address.format(free_port()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cluster", [True], indirect=True)
def test_a_cluster_that_requires_a_token_is_an_error_that_says_how_to_set_it(
    cluster: str, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(EngineError, match="requires a token; set RAY_AUTH_MODE=token"):
        run(configure(1, 1), tmp_path, engine="ray", address=cluster)


def test_an_address_of_something_else_is_an_error_and_changes_no_record(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "JOIN_TIMEOUT", 1.0)
    configs = configure(1, 1, "edit.steps=5000")  # past training
    run(configs, tmp_path)
    (record,) = (tmp_path / "run" / "jobs").iterdir()
    before = record.read_text()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EngineError, match=rf"no answer from a Ray cluster at '{address}'"):
            run(configs, tmp_path, engine="ray", address=address)
    assert '"failed"' in before
    assert record.read_text() == before


def test_without_ray_the_error_says_what_to_install(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'tokenflow\[ray\]'"):
        tokenflow.edit_many(configure(1, 1), engine="ray", run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_nothing_left_to_do_starts_no_ray(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = configure(1, 1)
    done = run(configs, tmp_path)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    assert run(configs, tmp_path, engine="ray") == done


def test_a_listener_receives_the_events_of_jobs_on_ray(configure: Configure, tmp_path: Path) -> None:
    events: list[Event] = []
    configs = configure(1, 2, "inversion.warn_below_psnr=90")
    run(configs, tmp_path, engine="ray", workers=1, on_event=events.append)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress if event.stage == "jobs"] == [0, 1, 2]
    assert [event.stage for event in progress if event.done == event.total].count("decode") == 2
    assert sum(isinstance(event, Notice) for event in events) == 2
    assert events[-1] == Progress("jobs", 2, 2, 0.0)
