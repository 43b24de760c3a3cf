"""Standard streams that survive closed pipes and full disks."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from tokenflow.errors import OutputError
from tokenflow.events import unbreakable


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make the standard streams safe to write to.

    Failed writes to standard error are dropped, those to standard output raise `OutputError`, unless its reader has
    gone: it has seen enough. A stream that the process started without is the null device.
    """
    _open_missing()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("TextIO", _Output(sys.stdout)), unbreakable(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:
            _discard_unwritten(stream)


class _Output:
    """A text stream whose failed writes raise `OutputError`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _output_errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _output_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        pass
    except UnicodeEncodeError as error:
        raise OutputError(
            f"cannot write to standard output (its encoding, {error.encoding}, lacks "
            f"{error.object[error.start]!a}); everything else is done: set PYTHONIOENCODING=utf-8"
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write to standard output ({error.strerror}); everything else is done: make room, or redirect it"
        ) from error


def _open_missing() -> None:
    """Open missing streams as the null device; else the next file opened gets the number of one, and its output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - for the rest of the process
            os.set_inheritable(stream.fileno(), True)  # for worker processes
            setattr(sys, name, stream)


def _discard_unwritten(stream: TextIO) -> None:
    """Discard what cannot be written, else Python tries again at exit and changes the exit status if that fails."""
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), stream.fileno())
