"""Which events get through to a listener in another process."""

import pytest

from tokenflow.batch import throttle
from tokenflow.batch.throttle import throttled
from tokenflow.events import Event, Notice, Progress


def test_frequent_progress_is_reduced_to_its_start_its_end_and_one_event_per_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(throttle, "INTERVAL", 1.0)
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now)
    received: list[Event] = []
    on_event = throttled(received.append)
    for done in range(3, 101):  # of a stage that an earlier run had begun
        on_event(Progress("invert", done, 100))
        now += 0.125
    assert [event.done for event in received if isinstance(event, Progress)] == [*range(3, 100, 8), 100]
    on_event(Progress("edit", 5, 100))
    assert received[-1] == Progress("edit", 5, 100)


def test_every_notice_gets_through() -> None:
    received: list[Event] = []
    on_event = throttled(received.append)
    events: list[Event] = [Progress("edit", 0, 9), *(Notice(str(index)) for index in range(5))]
    for event in events:
        on_event(event)
    assert received == events
