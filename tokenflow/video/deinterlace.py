"""Deinterlacing with FFmpeg's bwdif: one frame out per frame in, with the same times."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, groupby

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from tokenflow.video.decoder import DecodedFrame

_TIME_BASE = Fraction(1, 25)
"""Arbitrary: frames are numbered for the filter, and keep their own times."""


def deinterlace(frames: Iterable[DecodedFrame]) -> Iterator[DecodedFrame]:
    """The same frames, with those marked as interlaced deinterlaced."""
    for (interlaced, *_), run in groupby(frames, key=_filter_key):
        if interlaced:
            run = _filter_run(run)
        yield from run


def _filter_key(decoded: DecodedFrame) -> tuple[bool, int, int, str]:
    """What has to stay the same within a filter graph."""
    frame = decoded.frame
    return frame.interlaced_frame, frame.width, frame.height, frame.format.name


def _filter_run(frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    first = next(frames)
    graph = _build_graph(first.frame)
    pending: deque[DecodedFrame] = deque()
    for index, decoded in enumerate(chain([first], frames)):
        pending.append(decoded)
        decoded.frame.pts = index
        graph.push(decoded.frame)
        yield from _pull_frames(graph, pending)
    graph.push(None)
    yield from _pull_frames(graph, pending)


def _build_graph(frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_TIME_BASE)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=all"), graph.add("buffersink")).configure()
    return graph


def _pull_frames(graph: Graph, pending: deque[DecodedFrame]) -> Iterator[DecodedFrame]:
    """The frames the filter has ready; it looks one frame ahead and keeps the order."""
    while pending:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield replace(pending.popleft(), frame=frame)
