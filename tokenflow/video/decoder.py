"""The interface of every clip decoder: frames as decoded, with their times."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

DEFAULT_RATE = Fraction(25)
"""Frames per second where a clip does not specify a rate, such as a folder of images."""


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as decoded: before conversion to RGB, rotation and scaling to square pixels.

    Attributes:
        frame: the frame in the clip's own pixel format.
        time: seconds from the first frame of the clip; strictly increasing.
        duration: seconds for which the frame is shown if no other frame follows; above 0.
    """

    frame: VideoFrame
    time: Fraction
    duration: Fraction


@dataclass(frozen=True)
class Decoder:
    """A clip that can be decoded.

    Attributes:
        rate: average frames per second, above 0.
        pixel_aspect: width of a pixel divided by its height, above 0.
        has_audio: whether the clip has audio that can be copied.
        codec: name of the codec, such as `h264`.
        profile: profile of the codec, such as `High`; None if the file does not specify it.
        duration: seconds; None if the file does not specify it.
        decode: given a start in seconds, yields all frames from there on in order of their times. It may yield
            earlier frames first, as decoding has to begin at a key frame.
    """

    rate: Fraction
    pixel_aspect: Fraction
    has_audio: bool
    codec: str
    profile: str | None
    duration: Fraction | None
    decode: Callable[[Fraction], Generator[DecodedFrame]]
