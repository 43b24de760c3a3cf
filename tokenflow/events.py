"""Events of a long call and the terminal bars that show them.

Every long call takes `on_event`, which is called with each event in the thread of the call, and `cancel`, which is
asked before every network call and while another run makes the same inversion. An exception raised by a listener ends
the call and reaches the caller unchanged.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar, cast

from tqdm import tqdm

from tokenflow.errors import Cancelled, TokenflowWarning

if TYPE_CHECKING:
    import numpy as np

Item = TypeVar("Item")

UNITS = {
    "load": "model",
    "download": "B",
    **dict.fromkeys(("flow", "match"), "pair"),
    **dict.fromkeys(("read", "encode", "compare", "carry", "region", "decode"), "frame"),
}
"""What stages count, bytes as `B`; all others count sampling steps."""


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: such as `load`, `download`, `encode`, `invert`, `flow`, `edit` or `decode`.
        done: finished steps, frames, pairs of frames or bytes, starting at those an earlier run had finished.
        total: how many there are; None if unknown.
        seconds_left: until the stage ends, at its average speed so far; None if unknown.
        label: what the stage works on, such as the model that is loaded, where and in which precision; mostly empty.
        number: of the stage among those of the run, from 1; None where only the call of one stage is known.
        stages: how many stages the run has.
        run_seconds_left: until the last stage ends, roughly; None if unknown.
    """

    stage: str
    done: int
    total: int | None
    seconds_left: float | None = None
    label: str = ""
    number: int | None = None
    stages: int | None = None
    run_seconds_left: float | None = None


@dataclass(frozen=True)
class Preview:
    """Frames of the edit as the network would finish them now: x̂₀ at latent resolution.

    Attributes:
        step: index of the sampling step, from 0.
        indices: which frames of the clip these are.
        frames: f h w 3 uint8.
    """

    step: int
    indices: tuple[int, ...]
    frames: "np.ndarray"


@dataclass(frozen=True)
class Notice:
    """Something the user should know while the call goes on.

    Attributes:
        message: one line: what is wrong, and what to change.
        category: the class of `tokenflow.errors` under which it is issued as a Python warning without a listener.
    """

    message: str
    category: type[TokenflowWarning] = TokenflowWarning


Event = Progress | Preview | Notice
Listener = Callable[[Event], object]
Cancel = Callable[[], bool]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def raise_if_cancelled(cancel: Cancel | None) -> None:
    """Ask `cancel`, if there is one.

    Raises:
        Cancelled: it returned True.
    """
    if cancel is not None and cancel():
        raise Cancelled("cancelled")


@contextmanager
def listening(on_event: Listener | None) -> Iterator[None]:
    """Deliver notices of this thread to a listener; with None they are Python warnings."""
    token = _listener.set(on_event)
    try:
        yield
    finally:
        _listener.reset(token)


def current_listener() -> Listener | None:
    """The listener of the current call in this thread; None if there is none."""
    return _listener.get()


def notice(message: str, category: type[TokenflowWarning] = TokenflowWarning) -> None:
    """Tell the listener of the current call, or issue a Python warning if there is none."""
    listener = _listener.get()
    if listener is None:
        warnings.warn(message, category, stacklevel=3)
    else:
        listener(Notice(message, category))


@contextmanager
def progress(
    stage: str, total: int | None, on_event: Listener | None, *, initial: int = 0, label: str = ""
) -> Iterator[Callable[[int], None]]:
    """Give a function that advances a stage by some units and reports it."""
    done, start = initial, time.monotonic()

    def advance(units: int) -> None:
        nonlocal done
        done += units
        if on_event is not None:
            left = _seconds_left(time.monotonic() - start, done - initial, done, total)
            on_event(Progress(stage, done, total, left, label))

    advance(0)
    yield advance


def _seconds_left(elapsed: float, finished: int, done: int, total: int | None) -> float | None:
    return elapsed / finished * (total - done) if finished and total is not None else None


def track(
    items: Iterable[Item],
    stage: str,
    on_event: Listener | None,
    *,
    total: int | None = None,
    initial: int = 0,
    label: str = "",
) -> Iterator[Item]:
    """Yield the items and report each as one unit, once the next is asked for."""
    with progress(stage, total, on_event, initial=initial, label=label) as advance:
        for item in items:
            yield item
            advance(1)


class TerminalBars:
    """A listener that draws one bar per stage on standard error, and prints notices between them.

    A closed or full standard error does not stop the work.
    """

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar: tqdm | None = None

    def __call__(self, event: Event) -> None:
        """Draw progress, print notices, ignore previews."""
        match event:
            case Progress():
                self._advance(event)
            case Notice():
                self._print(f"warning: {event.message}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _advance(self, event: Progress) -> None:
        if self._bar is None or self._is_another(event):
            self._close()
            self._stage = event.stage
            self._bar = terminal_bar(
                total=event.total,
                desc=_title(event),
                initial=event.done,
                unit=stage_unit(event.stage),
            )
        else:
            if event.run_seconds_left is not None:
                self._bar.set_postfix_str(f"{tqdm.format_interval(event.run_seconds_left)} to the end", refresh=False)
            self._bar.update(event.done - self._bar.n)

    def _is_another(self, event: Progress) -> bool:
        """Whether this is another stage, or the same stage of another call."""
        return self._bar is not None and (
            event.stage != self._stage or event.total != self._bar.total or event.done < self._bar.n
        )

    def _print(self, line: str) -> None:
        """A line of its own: above the bar if one is drawn."""
        if self._bar is not None:
            self._bar.clear()
        if sys.stderr is not None:
            print(line, file=unbreakable(sys.stderr), flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = self._stage = None


def _title(event: Progress) -> str:
    """A stage's name on its bar."""
    number = "" if event.number is None else f"{event.number} of {event.stages} "
    return f"{number}{event.stage} {event.label}".strip()


def stage_unit(stage: str) -> str:
    """What a stage counts: models, bytes, frames, pairs of frames or sampling steps."""
    return UNITS.get(stage, "step")


def terminal_bar(**options: Any) -> tqdm:
    """A tqdm bar on standard error that survives a closed or full one; options are tqdm's own.

    Bytes are shown in the unit that fits.
    """
    options.setdefault("unit_scale", options.get("unit") == "B")
    if sys.stderr is None:
        return tqdm(**{**options, "disable": True})
    return tqdm(file=unbreakable(sys.stderr), **options)


class _Unbreakable:
    """A text stream whose failed writes are dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def unbreakable(stream: TextIO) -> TextIO:
    """The stream, with failed writes dropped: work should not end because a message could not be shown."""
    return cast("TextIO", _Unbreakable(stream))
