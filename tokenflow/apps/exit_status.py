"""From errors and signals to a line on standard error and the exit status of the process."""

import atexit
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tokenflow.errors import TokenflowError

JOBS_FAILED = 1
"""Some jobs of a batch failed."""

UNSOUND = 1
"""Something is missing without which no edit can be made."""

USER_ERROR = 2
"""Something that the user can fix: wrong arguments, settings or files, or too little memory."""

INTERRUPTED = 130
"""Ctrl-C was pressed."""

OUT_OF_MEMORY = (
    "memory ran out; set a smaller inversion.batch_size, edit.batch_size, edit.keyframe_window or clip.size, or fewer "
    "clip.frames (for generate, a smaller --size)"
)


@contextmanager
def exit_status(*, with_traceback: bool) -> Iterator[None]:
    """End the process with the status that fits how the block ends, after one line about an error.

    Args:
        with_traceback: let errors pass, so that Python prints a traceback. Bugs always pass.
    """
    try:
        with _ctrl_c_wins():
            yield
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted: finished work is kept, and the same command continues from there", file=sys.stderr)
        raise
    except Exception as error:
        message = error_message(error)
        if with_traceback or message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(USER_ERROR)
    finally:
        # Python and torch take a moment to shut down, and nothing is left to interrupt.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def error_message(error: Exception) -> str | None:
    """What to tell the user of an error; None if it is a bug."""
    if isinstance(error, TokenflowError):
        return str(error)
    return OUT_OF_MEMORY if _is_out_of_memory(error) else None


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch has an exception of its own for that of the GPU, but none for that of the CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
    )


@contextmanager
def _ctrl_c_wins() -> Iterator[None]:
    """Exit as interrupted after Ctrl-C, even if a library turned the KeyboardInterrupt into an error of its own."""
    pressed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # the caller handles it
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if pressed:
            raise SystemExit(INTERRUPTED) from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
