"""How far a loop is: drawn as a bar on the terminal, or told to who asked for it. Knows no loop by name."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from tokenflow.apps.stdio import dropping
from tokenflow.errors import TokenflowWarning

Item = TypeVar("Item")

Listener = Callable[[str, int, int | None], object]
"""(label of the loop, how many units are done, how many there are or None where that is not known), at each advance."""

Progress = bool | Listener
"""Draw bars, or do not, or tell this listener instead."""


def drawn_bar(*, disable: bool, **options: Any) -> tqdm:
    """A bar of tqdm on standard error; the work goes on where there is none, or it cannot be written.

    Args:
        disable: draw nothing.
        **options: tqdm's own.
    """
    if sys.stderr is None:
        return tqdm(disable=True, **options)
    return tqdm(disable=disable, file=dropping(sys.stderr), **options)


@contextmanager
def progress_bar(
    label: str, total: int | None, unit: str, progress: Progress, *, initial: int = 0
) -> Iterator[Callable[[int], object]]:
    """Give a function that advances the bar by so many units."""
    if not callable(progress):
        with drawn_bar(total=total, desc=label, unit=unit, initial=initial, disable=not progress) as bar:
            yield bar.update
        return
    done = initial

    def advance(units: int) -> None:
        nonlocal done
        done += units
        progress(label, done, total)

    advance(0)
    yield advance


def track(
    items: Iterable[Item],
    label: str,
    *,
    unit: str,
    progress: Progress,
    total: int | None = None,
    initial: int = 0,
) -> Iterator[Item]:
    """The items, one unit each: the bar advances when the next is asked for."""
    with progress_bar(label, total, unit, progress, initial=initial) as advance:
        for item in items:
            yield item
            advance(1)


def notice(message: str) -> None:
    """Tell the user of something that the work can go on with.

    Warns:
        TokenflowWarning: with the message.
    """
    warnings.warn(message, TokenflowWarning, stacklevel=3)
