"""When the frames of a video file are shown."""

from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tokenflow.video.decoder import DEFAULT_RATE

_UNTIMED_FORMATS = {"h264", "hevc", "m4v", "mpegvideo", "obu"}
"""Elementary streams: they store no time stamps, so frames are counted."""


class PresentationClock:
    """When frames are shown, in seconds from the first frame; strictly increasing even if the time stamps are not.

    Args:
        container, stream: what is decoded.
        first: the first frame that is shown.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, first: VideoFrame) -> None:
        self._time_base = stream.time_base or Fraction(1, av.time_base)
        # AVI has no time stamps either, and FFmpeg guesses them wrong for streams with reordered frames
        reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        self._untimed = reordered or container.format.name in _UNTIMED_FORMATS
        self._rate = frame_rate(stream)
        self._constant = stream.average_rate == stream.base_rate
        self._origin = first.pts or 0
        self._previous: Fraction | None = None
        self._gap = 1 / self._rate

    @property
    def origin(self) -> Fraction:
        """When the first frame is shown, in seconds, by the time stamps of the file."""
        return self._origin * self._time_base

    def time(self, frame: VideoFrame) -> Fraction:
        """When the frame is shown; call it once per frame, in presentation order."""
        if self._untimed or frame.pts is None:
            time = Fraction(0) if self._previous is None else self._previous + 1 / self._rate
        else:
            time = self._undo_rounding((frame.pts - self._origin) * self._time_base)
        if self._previous is not None:
            time = time if time > self._previous else self._previous + self._time_base
            self._gap = time - self._previous
        self._previous = time
        return time

    def duration(self, frame: VideoFrame) -> Fraction:
        """How long the frame of the last call of `time` is shown; if unknown, as long as the frame before it."""
        declared = frame.duration * self._time_base
        return self._gap if self._untimed or declared <= 0 else self._undo_rounding(declared) or declared

    def _undo_rounding(self, time: Fraction) -> Fraction:
        """The exact time at a constant rate, which the container had to round to its time base."""
        exact = round(time * self._rate) / self._rate
        return exact if self._constant and abs(exact - time) <= self._time_base else time

    def pts(self, time: Fraction) -> int:
        """The time stamp of a time in seconds."""
        return self._origin + int(time / self._time_base)


def frame_rate(stream: VideoStream) -> Fraction:
    """Average frames per second; the default where a file specifies none that is plausible."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate)
    return DEFAULT_RATE
