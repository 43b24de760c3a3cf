"""Jobs run one after the other, can be cancelled before and while they run, and report what they are told."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.tiny import moving_square
from tokenflow.apps.web.jobs import MAX_KEPT, Job, Jobs, Work
from tokenflow.errors import Cancelled
from tokenflow.events import Notice, Preview, Progress

SECONDS = 20


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.close()


def job(work: Work) -> Job:
    return Job("whole", (), work)


def wait_for_end(job: Job) -> None:
    ended = threading.Event()
    while not job.is_finished and not ended.wait(0.005):
        pass


class Gate:
    """Work that goes on until it is let through or cancelled."""

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()

    def __call__(self, on_event: Any, cancel: Any) -> str:
        self.began.set()
        while not self.open.wait(0.005):
            if cancel():
                raise Cancelled("cancelled")
        return "through"


def test_two_jobs_take_turns_in_order(jobs: Jobs) -> None:
    gates = Gate(), Gate()
    first, second = (jobs.submit(job(gate)) for gate in gates)
    assert gates[0].began.wait(SECONDS)
    assert (first.state, second.state) == ("running", "waiting")
    assert (jobs.ahead(first), jobs.ahead(second)) == (0, 1)
    assert jobs.unfinished() == [first, second]
    gates[0].open.set()
    assert gates[1].began.wait(SECONDS)
    wait_for_end(first)
    assert (first.state, first.outcome, second.state) == ("done", "through", "running")
    gates[1].open.set()
    wait_for_end(second)
    assert jobs.unfinished() == []


def test_a_running_job_is_cancelled_where_it_asks(jobs: Jobs) -> None:
    gate = Gate()
    running = jobs.submit(job(gate))
    assert gate.began.wait(SECONDS)
    jobs.cancel(running)
    wait_for_end(running)
    assert running.state == "cancelled"


def test_a_waiting_job_is_cancelled_at_once_and_never_begins(jobs: Jobs) -> None:
    gate, never = Gate(), Gate()
    running, waiting = jobs.submit(job(gate)), jobs.submit(job(never))
    jobs.cancel(waiting)
    assert waiting.state == "cancelled"
    gate.open.set()
    wait_for_end(running)
    assert not never.began.is_set()


def test_a_job_that_fails_keeps_its_error_and_the_next_one_runs(jobs: Jobs) -> None:
    def fail(on_event: Any, cancel: Any) -> None:
        raise ValueError("broken")

    gate = Gate()
    gate.open.set()
    failed, after = jobs.submit(job(fail)), jobs.submit(job(gate))
    wait_for_end(after)
    assert (failed.state, str(failed.error), after.state) == ("failed", "broken", "done")


def test_events_are_kept_and_each_is_a_change(jobs: Jobs) -> None:
    reporting = job(lambda on_event, cancel: None)
    preview = Preview(3, (0,), moving_square(1))
    events = [Progress("edit", 1, 2), preview, Notice("careful"), Notice("careful")]
    versions = []
    for event in events:
        reporting.on_event(event)
        versions.append(reporting.version)
    assert (reporting.progress, reporting.preview, reporting.notices) == (events[0], preview, ["careful"])
    assert np.all(np.diff(versions) == 1)


def test_closing_cancels_what_runs_and_what_waits() -> None:
    jobs, gate = Jobs(), Gate()
    running, waiting = jobs.submit(job(gate)), jobs.submit(job(Gate()))
    assert gate.began.wait(SECONDS)
    jobs.close()
    assert (running.state, waiting.state) == ("cancelled", "cancelled")


def test_only_so_many_finished_jobs_are_kept(jobs: Jobs) -> None:
    done = [jobs.submit(job(lambda on_event, cancel: None)) for _ in range(MAX_KEPT + 1)]
    wait_for_end(done[-1])
    jobs.submit(job(lambda on_event, cancel: None))
    assert jobs.find(done[0].id) is None
    assert jobs.find(done[-1].id) is done[-1]
