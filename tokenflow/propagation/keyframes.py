"""Which frames are keyframes at a step, which of them attend to each other, and which are nearest to a frame."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ANCHORS = 2
"""How many keyframes, spread over the shot, every window attends to if there is more than one window."""


def draw_keyframes(frame_count: int, interval: int, seed: int, step: int) -> list[int]:
    """One random frame out of each interval, in order: different ones at each step, the same for the same seed.

    Drawing new ones at each step spreads what is particular to keyframes over all frames (Geyer et al., section 4.2 and
    table 2). The shot is cut into ⌈frames / interval⌉ parts of nearly equal length.
    """
    count = -(-frame_count // interval)
    bounds = np.linspace(0, frame_count, count + 1).round().astype(int)
    return np.random.default_rng([seed, step]).integers(bounds[:-1], bounds[1:]).tolist()


@dataclass(frozen=True)
class Window:
    """Keyframes that go through the network together, and the frames that are propagated from them.

    Attributes:
        keyframes: computed here, in order.
        context: keyframes of earlier windows that these attend to, too: shared anchors, and the last before these.
        between: non-keyframes between the previous window and this one's last keyframe (or the shot's end).
        kept: of all keyframes so far, those that later windows attend to or propagate from.
    """

    keyframes: tuple[int, ...]
    context: tuple[int, ...]
    between: tuple[int, ...]
    kept: tuple[int, ...]


def windows(keyframes: Sequence[int], frames: range, size: int) -> Iterator[Window]:
    """Cut the keyframes of some frames, a shot, into windows of at most `size` keyframes, context included.

    Up to `size` keyframes make one window and all attend to all, as in the paper. Beyond that, memory stays constant:
    anchors spread over the shot come first, and each window attends to them, which keeps its look
    consistent, and, if its size is 4 or more, to the keyframe before it, which keeps neighbours consistent. Every
    keyframe is in one window, so time stays linear.
    """
    others = _without(frames, keyframes)
    if len(keyframes) <= size:
        yield Window(tuple(keyframes), (), others, ())
        return
    anchors = _spread(keyframes, min(ANCHORS, size - 1))
    yield Window(anchors, (), (), anchors)
    rest = _without(keyframes, anchors)
    own = max(1, size - len(anchors) - 1)
    begin, context = frames.start, anchors
    for start in range(0, len(rest), own):
        chunk = rest[start : start + own]
        end = frames.stop if start + own >= len(rest) else chunk[-1] + 1
        between = others[bisect_left(others, begin) : bisect_left(others, end)]
        kept = tuple(sorted({*anchors, chunk[-1]}))
        yield Window(chunk, context, between, kept)
        begin, context = end, kept if size > len(anchors) + 1 else anchors


def _without(items: Sequence[int], left_out: Sequence[int]) -> tuple[int, ...]:
    gone = set(left_out)
    return tuple(item for item in items if item not in gone)


def _spread(keyframes: Sequence[int], count: int) -> tuple[int, ...]:
    positions = (np.arange(count) + 0.5) / count * len(keyframes)
    return tuple(keyframes[int(position)] for position in positions)


def neighbours(frame: int, keyframes: Sequence[int]) -> tuple[int, int]:
    """Positions in `keyframes` (sorted) of the nearest one before and after a frame; at the shot's ends one twice."""
    before = bisect_right(keyframes, frame) - 1
    after = bisect_left(keyframes, frame)
    return before if before >= 0 else after, after if after < len(keyframes) else before


def frame_pairs(frames: range, keyframes: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs of frames, the earlier first, between which tokens are propagated in a step: each once, in order.

    Args:
        frames: of one shot.
        keyframes: those of the step among them, sorted.
    """
    pairs = {
        (min(frame, keyframes[side]), max(frame, keyframes[side]))
        for frame in frames
        for side in neighbours(frame, keyframes)
        if frame != keyframes[side]
    }
    return sorted(pairs)
