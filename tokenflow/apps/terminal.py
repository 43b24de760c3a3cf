"""What commands print: results on standard output; bars, notices and warnings on standard error."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tokenflow.errors import TokenflowWarning
from tokenflow.events import Event, Listener, Notice, TerminalBars


def print_lines(*lines: str) -> None:
    """Print lines, and flush them, so that an error is raised here."""
    print("\n".join(lines), flush=True)


@contextmanager
def terminal_listener(quiet: bool) -> Iterator[Listener]:
    """A listener that draws bars and prints notices; with `quiet`, notices alone, and downloads draw no bars either."""
    if quiet:
        with no_download_bars():
            yield _print_notice
        return
    with TerminalBars() as bars:
        yield bars


@contextmanager
def no_download_bars() -> Iterator[None]:
    """Switch off the bars of downloads from the Hub."""
    from huggingface_hub import utils as hub

    if hub.are_progress_bars_disabled():
        yield
        return
    hub.disable_progress_bars()
    try:
        yield
    finally:
        hub.enable_progress_bars()


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print Python warnings of tokenflow as one line; hide those of libraries, which are meant for developers."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        yield


def _print_notice(event: Event) -> None:
    if isinstance(event, Notice):
        print(f"warning: {event.message}", file=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, TokenflowWarning):
        print(f"warning: {message}", file=sys.stderr)
