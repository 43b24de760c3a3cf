"""Bars of a batch, as they are drawn."""

import re
import sys

import pytest

from tests.batch.test_jobs import config
from tokenflow.batch import bars
from tokenflow.batch.bars import JobBars
from tokenflow.batch.jobs import Job
from tokenflow.batch.worker import JobResult
from tokenflow.events import Notice, Progress, terminal_bar

JOB = Job(config(0))
"""With the output folder 0-0-0."""


class Clock:
    """A time that only passes when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(bars, "terminal_bar", self._bar)

    def _bar(self, **options: object) -> object:
        bar = terminal_bar(**options, mininterval=0)
        bar._time = lambda: self.now
        bar.start_t = bar.last_print_t = self.now
        return bar


def test_the_bar_of_a_resumed_stage_starts_where_the_stage_does_with_its_own_time_and_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with JobBars(1, 0) as drawn:
        drawn.on_start(JOB, 0)
        for done in range(3):
            drawn.on_event(JOB, 0, Progress("encode", done, 2))
            clock.now += 50
        capsys.readouterr()
        for done in range(20, 26):
            drawn.on_event(JOB, 0, Progress("invert", done, 25))
            clock.now += 0.5
        first, *_, last = re.findall(r"invert[^\r\n\x1b]*", capsys.readouterr().err)
    assert "20/25 [00:00<" in first
    assert "25/25 [00:02<00:00" in last
    assert re.search(r" 2\.\d+step/s", last)


def test_a_job_that_starts_over_begins_a_new_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with JobBars(1, 0) as drawn:
        for done in (7, 2):
            drawn.on_start(JOB, 0)
            drawn.on_event(JOB, 0, Progress("decode", done, 9))
    shown = capsys.readouterr().err
    assert re.search(r"0-0-0: decode: [^\r\n]* 7/9 [^\r\n]*frame", shown)
    assert re.search(r"0-0-0: decode: [^\r\n]* 2/9 [^\r\n]*frame", shown)


def test_jobs_are_counted_from_those_that_were_done_and_notices_are_not_drawn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with JobBars(4, 2) as drawn:
        drawn.on_event(JOB, 0, Notice("this will disappoint"))
        drawn.on_finish(JOB, 0, JobResult())
    shown = capsys.readouterr().err
    assert " 2/4 " in shown
    assert " 3/4 " in shown
    assert "disappoint" not in shown


def test_without_standard_error_nothing_is_drawn_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with JobBars(1, 0) as drawn:
        drawn.on_start(JOB, 0)
        for done in range(3):
            drawn.on_event(JOB, 0, Progress("edit", done, 2))
        drawn.on_finish(JOB, 0, JobResult())
