"""Interlaced pictures made whole: the lines of the second field are computed from the first and its neighbours.

Knows only shots. One picture comes out for one that goes in, with the same times.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, groupby

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from tokenflow.video.decoder import DecodedFrame

_TICK = Fraction(1, 25)
"""Of no consequence: the filter counts pictures and is not asked for times."""


def deinterlaced(shots: Iterable[DecodedFrame]) -> Iterator[DecodedFrame]:
    """The same shots, those marked as interlaced without combs at what moves."""
    for (interlaced, *_), alike in groupby(shots, key=_kind):
        if interlaced:
            alike = _filtered(alike)
        yield from alike


def _kind(shot: DecodedFrame) -> tuple[bool, int, int, str]:
    frame = shot.frame
    return frame.interlaced_frame, frame.width, frame.height, frame.format.name


def _filtered(shots: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    first = next(shots)
    graph = _graph(first.frame)
    waiting: deque[DecodedFrame] = deque()
    for count, shot in enumerate(chain([first], shots)):
        waiting.append(shot)
        shot.frame.pts = count
        graph.push(shot.frame)
        yield from _finished(graph, waiting)
    graph.push(None)
    yield from _finished(graph, waiting)


def _graph(frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_TICK)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=all"), graph.add("buffersink")).configure()
    return graph


def _finished(graph: Graph, waiting: deque[DecodedFrame]) -> Iterator[DecodedFrame]:
    """What the filter has ready: it looks one picture ahead and keeps the order."""
    while waiting:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield replace(waiting.popleft(), frame=frame)
