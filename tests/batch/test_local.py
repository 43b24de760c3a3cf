"""Worker processes as their parent sees them, without any being started."""

from multiprocessing import Pipe
from typing import Any

import pytest
import torch

from tests.batch.test_jobs import config
from tokenflow.batch import local
from tokenflow.batch.jobs import Job
from tokenflow.batch.local import Processes
from tokenflow.batch.worker import JobResult
from tokenflow.errors import EngineError
from tokenflow.events import Event, Notice, Progress


class FakeProcess:
    """Has run its target for one job by the time it is started."""

    replies: tuple[object, ...] = (local.READY, JobResult())
    exitcode: int | None = 0

    def __init__(self, target: object, args: tuple[Any, int, int, int | None], daemon: bool) -> None:
        self._theirs, self.index, self.threads, _ = args
        started.append(self)

    def start(self) -> None:
        for reply in self.replies:
            self._theirs.send(reply)

    def join(self, timeout: float | None = None) -> None:
        pass

    kill = join


started: list[FakeProcess] = []


class Context:
    """In the place of multiprocessing's."""

    Process = FakeProcess
    Pipe = staticmethod(Pipe)


class Observed:
    """An observer that keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def on_start(self, job: Job, worker: int) -> None:
        self.calls.append(("start", worker))

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        self.calls.append(("event", worker, event))

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        self.calls.append(("finish", worker, result))


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    started.clear()
    monkeypatch.setattr(local, "PROCESSES", Context)
    return FakeProcess


def jobs(count: int) -> list[Job]:
    return [Job(config(clip)) for clip in range(count)]


@pytest.mark.parametrize(
    ("workers", "count", "each"), [(16, 2, 8), (4, 8, 4), (3, 8, 5), (32, 40, 1)], ids=lambda value: str(value)
)
def test_threads_are_divided_by_the_workers_that_start(
    workers: int, count: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    Processes(workers, 0).run(jobs(count), Observed())
    assert len(started) >= min(workers, count)
    assert {process.threads for process in started} == {each}


def test_events_of_a_job_reach_the_observer_in_order(
    processes: type[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [Progress("edit", 0, 2), Notice("this will disappoint"), Progress("edit", 2, 2)]
    monkeypatch.setattr(processes, "replies", (local.READY, *events, JobResult(seconds=1.0)))
    observer = Observed()
    Processes(1, 0).run(jobs(1), observer)
    assert observer.calls == [
        ("start", 0),
        *(("event", 0, event) for event in events),
        ("finish", 0, JobResult(seconds=1.0)),
    ]


@pytest.mark.parametrize(
    ("status", "description"),
    [(1, "exit status 1"), (-15, "killed by SIGTERM"), (-99, "killed by signal 99")],
)
def test_a_job_whose_process_keeps_dying_fails_with_how_it_died(
    status: int, description: str, processes: type[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "replies", (local.READY,))
    monkeypatch.setattr(processes, "exitcode", status)
    observer = Observed()
    Processes(2, 1).run(jobs(1), observer)
    assert [call[0] for call in observer.calls] == ["start", "start", "finish"]
    result = observer.calls[-1][-1]
    assert isinstance(result, JobResult)
    assert f"died each time ({description}); if memory ran out" in (result.reason or "")


def test_workers_that_die_before_they_are_ready_are_an_error_after_some_attempts(
    processes: type[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "replies", ())
    monkeypatch.setattr(processes, "exitcode", -11)
    with pytest.raises(EngineError, match=r"could not start \(killed by SIGSEGV\)"):
        Processes(2, 2).run(jobs(2), Observed())
    assert len(started) == local.MAX_FAILED_STARTS + 1
