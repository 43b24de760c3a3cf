"""Standard output and error, made to stand that they cannot be written. Knows nothing of what is written."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from tokenflow.errors import OutputError


class _Stream:
    """Writes to another stream; what cannot be written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._not_written(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._not_written(error)

    def _not_written(self, error: OSError) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Output(_Stream):
    """Says so at once if what was asked for does not arrive; a reader who went away has seen enough."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except UnicodeEncodeError as error:
            raise OutputError(
                f"standard output cannot be written (its encoding, {error.encoding}, has no "
                f"{error.object[error.start]!a}); all else is done: set PYTHONIOENCODING=utf-8"
            ) from error

    def _not_written(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            raise OutputError(
                f"standard output cannot be written ({error.strerror}); all else is done: make room, or send it "
                "elsewhere"
            ) from error


def dropping(stream: TextIO) -> TextIO:
    """The stream, but what cannot be written to it is dropped: no work should end for what is said along the way."""
    return cast("TextIO", _Stream(stream))


@contextmanager
def standard_streams() -> Iterator[None]:
    """Within, standard error drops what cannot be written, and standard output raises `OutputError` for it.

    A closed stream takes what it is given and keeps nothing.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("TextIO", _Output(sys.stdout)), dropping(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _drop_what_is_left(stream)


def _open_closed() -> None:
    """Open streams that the process was started without.

    Else the next file that is opened gets the number of standard error, and what libraries print is written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # processes started from here need it as well
            setattr(sys, name, os.fdopen(number, mode))


def _drop_what_is_left(stream: TextIO) -> None:
    """Python tries once more when it ends, and ends in another status if that fails."""
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
