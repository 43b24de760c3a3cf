"""Fewer events for listeners in another process."""

import time

from tokenflow.events import Event, Listener, Progress

INTERVAL = 0.2
"""Seconds between two reports of a stage's progress."""


def throttled(listener: Listener) -> Listener:
    """Pass on every event, except progress within `INTERVAL` of the last that is not the start or end of a stage."""
    last = 0.0
    stage: str | None = None

    def on_event(event: Event) -> None:
        nonlocal last, stage
        if isinstance(event, Progress):
            now = time.monotonic()
            if event.stage == stage and event.done != event.total and now - last < INTERVAL:
                return
            last, stage = now, event.stage
        listener(event)

    return on_event
