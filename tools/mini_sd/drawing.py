"""Pictures drawn ahead by other processes, while the network works."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")
AHEAD = 3  # drawings per process that wait to be taken


def draw_ahead(draw: Callable[[P], T], places: Iterable[P], workers: int) -> Iterator[T]:
    """draw(place) of each place in order.

    Args:
        draw: gives arrays of numpy, which need no shared memory, and can be pickled itself.
        places: what to draw, asked for when there is room for one more.
        workers: processes; without any, each is drawn when it is taken.
    """
    if not workers:
        yield from map(draw, places)
        return
    with get_context("fork").Pool(workers) as pool:
        waiting = deque()
        for place in places:
            waiting.append(pool.apply_async(draw, (place,)))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().get()
        while waiting:
            yield waiting.popleft().get()
