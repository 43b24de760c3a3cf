"""What every reader of a clip gives: decoded pictures with their times. Knows no file format."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

DEFAULT_RATE = Fraction(25)
"""Pictures a second where a clip does not say, as in a folder of pictures."""


@dataclass(frozen=True)
class DecodedFrame:
    """A picture as it was decoded: not yet RGB, upright or of square pixels.

    Attributes:
        frame: the picture.
        time: seconds from the first picture of the clip; strictly increasing from shot to shot.
        duration: seconds for which it is to be shown, above 0, where no other picture follows.
    """

    frame: VideoFrame
    time: Fraction
    duration: Fraction


@dataclass(frozen=True)
class Decoder:
    """A clip that can be read.

    Attributes:
        rate: pictures a second on average, above 0.
        pixel_aspect: width of a pixel over its height, above 0.
        has_audio: whether there is sound to copy.
        codec: the name of the coding, such as `h264`.
        profile: which part of the coding decoders have to know, such as `High`; None where none is said.
        duration: seconds, or None where the file does not say.
        shots: given the seconds from which pictures are wanted, all pictures from then on in the order of
            their times. They may begin earlier, as decoding has to.
    """

    rate: Fraction
    pixel_aspect: Fraction
    has_audio: bool
    codec: str
    profile: str | None
    duration: Fraction | None
    shots: Callable[[Fraction], Generator[DecodedFrame]]
