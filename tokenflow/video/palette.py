"""The 256 colours of a GIF frame, chosen for each frame by FFmpeg's palettegen."""

from fractions import Fraction

import av
from av.filter import Graph
from av.video.frame import VideoFrame

_TIME_BASE = Fraction(1, 25)
"""Arbitrary: frames are numbered for the filters."""


class PaletteFilter:
    """Reduces frames of one size to a palette each, with dithering; transparent pixels have an entry of their own.

    Args:
        width, height: of the frames, in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._graph = graph = Graph()
        rgba = av.VideoFormat("rgba", width, height)
        source = graph.add_buffer(width=width, height=height, format=rgba, time_base=_TIME_BASE)
        split, sink = graph.add("split"), graph.add("buffersink")
        palette, reduce = graph.add("palettegen", "stats_mode=single"), graph.add("paletteuse", "new=1")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(reduce, 1, 0)
        palette.link_to(reduce, 0, 1)
        reduce.link_to(sink)
        graph.configure()
        self._count = 0

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame (rgba) in pal8."""
        frame.pts, frame.time_base = self._count, _TIME_BASE
        self._count += 1
        self._graph.push(frame)
        return self._graph.vpull()
