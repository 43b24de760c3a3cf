import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tokenflow.errors import TokenflowWarning, WaitingWarning
from tokenflow.events import Event, Notice, Progress, TerminalBars, listening, notice, progress, track


def test_a_listener_receives_the_start_and_every_unit() -> None:
    heard: list[Event] = []
    assert list(track("abc", "edit", heard.append, total=5, initial=2)) == ["a", "b", "c"]
    assert [(each.stage, each.done, each.total) for each in heard] == [("edit", done, 5) for done in (2, 3, 4, 5)]


def test_groups_advance_by_their_size() -> None:
    heard: list[Event] = []
    with progress("decode", 7, heard.append) as advance:
        advance(4)
        advance(3)
    assert [each.done for each in heard] == [0, 4, 7]


def test_the_time_left_is_that_of_the_steps_left_at_the_speed_of_those_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 106.0, 110.0])
    monkeypatch.setattr("tokenflow.events.time.monotonic", lambda: next(clock))
    heard: list[Event] = []
    with progress("invert", 10, heard.append, initial=4) as advance:  # four of the ten were done earlier
        advance(3)
        advance(1)
    assert [each.seconds_left for each in heard] == [None, 6.0, 5.0]


def test_without_a_total_the_time_left_is_unknown() -> None:
    heard: list[Event] = []
    list(track(range(3), "read", heard.append))
    assert {each.seconds_left for each in heard} == {None}


def test_an_error_of_a_listener_ends_the_loop_unchanged_and_closes_it() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    def fail(event: Progress) -> None:
        if event.done == 3:
            raise ConnectionAbortedError("the browser is gone")

    with pytest.raises(ConnectionAbortedError, match="the browser is gone"):
        list(track(items(), "edit", fail))
    assert closed == [True]


def test_a_notice_reaches_the_listener_and_is_a_warning_without_one() -> None:
    heard: list[Event] = []
    with listening(heard.append):
        notice("first", WaitingWarning)
    assert heard == [Notice("first", WaitingWarning)]
    with pytest.warns(TokenflowWarning, match="second"):
        notice("second")
    with listening(None), pytest.warns(WaitingWarning, match="third"):
        notice("third", WaitingWarning)


def test_notices_of_a_thread_reach_the_listener_of_that_thread() -> None:
    def work(name: str) -> list[Event]:
        heard: list[Event] = []
        with listening(heard.append):
            for _ in range(50):
                notice(name)
        return heard

    with ThreadPoolExecutor(4) as pool:
        for name, heard in zip("abcd", pool.map(work, "abcd"), strict=True):
            assert {event.message for event in heard} == {name}


def test_terminal_bars_draw_stages_and_print_notices_on_lines_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with TerminalBars() as bars:
        for done in range(3):
            bars(Progress("invert", done, 2))
        bars(Notice("look at this"))
        bars(Progress("edit", 0, 5))
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "warning: look at this" in lines
    assert any(line.startswith("invert: 100%") for line in lines)
    assert any(line.startswith("edit:") for line in lines)


def test_bars_of_a_second_call_start_anew(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalBars() as bars:
        for done in (0, 1, 2, 0, 1, 2):
            bars(Progress("edit", done, 2))
    assert capsys.readouterr().err.count("2/2") == 2


def test_bars_show_the_number_of_a_stage_and_the_time_left_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalBars() as bars:
        for done in range(3):
            bars(Progress("invert", done, 2, number=3, stages=6, run_seconds_left=done and 125.0))
    last = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("3 of 6 invert: 100%|")
    assert last.endswith(", 02:05 to the end]")


def test_without_standard_error_bars_draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with warnings.catch_warnings(), TerminalBars() as bars:
        bars(Progress("invert", 1, 2))
        bars(Notice("unheard"))
