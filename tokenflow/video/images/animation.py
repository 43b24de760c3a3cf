"""One image file, animated or still."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

from PIL import Image, ImageSequence, TiffImagePlugin

from tokenflow.video.decoder import DEFAULT_RATE, DecodedFrame, Decoder
from tokenflow.video.images.pixels import open_image, to_video_frame

_DEFAULT_DELAY = 100
"""Milliseconds for which an animation frame with a delay of 0 or none is shown, as in browsers."""

_SUBFILE_TYPE, _REDUCED = 254, 1
"""The tag of TIFF that says what a page is, and its bit for a smaller copy of another page."""


def open_animation(path: Path) -> Decoder:
    """A decoder for one image file, animated or still.

    Raises:
        ClipError: the file is damaged or not an image.
    """
    with open_image(path) as image:
        durations = [_frame_duration(each) for each in _frames(image)]
        codec = (image.format or "").lower()
    duration = sum(durations, Fraction(0))
    return Decoder(
        rate=len(durations) / duration,
        pixel_aspect=Fraction(1),
        has_audio=False,
        codec=codec,
        profile=None,
        duration=duration,
        decode=partial(_decode, path),
    )


def _decode(path: Path, start: Fraction) -> Generator[DecodedFrame]:
    time = Fraction(0)
    with open_image(path) as image:
        for each in _frames(image):
            duration = _frame_duration(each)
            yield DecodedFrame(to_video_frame(each), time, duration)
            time += duration


def _frames(image: Image.Image) -> Iterator[Image.Image]:
    """The frames of an animation, or the one image.

    The default image of an APNG is for programs that show no animation, and a reduced page of a TIFF is a thumbnail.
    """
    if not _is_animated(image):
        yield image
        return
    for index, each in enumerate(ImageSequence.Iterator(image)):
        is_default = index == 0 and getattr(image, "default_image", False)
        if not is_default and not _is_reduced(each):
            yield each


def _is_animated(image: Image.Image) -> bool:
    """Whether the image is an animation; an MPO is a photograph with further views, of which only the first counts."""
    return getattr(image, "is_animated", False) and image.format != "MPO"


def _is_reduced(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and bool(image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED)


def _frame_duration(image: Image.Image) -> Fraction:
    """Seconds for which an image is shown."""
    image.load()  # only then does Pillow know the duration
    if not _is_animated(image):
        return 1 / DEFAULT_RATE
    return Fraction(image.info.get("duration") or _DEFAULT_DELAY).limit_denominator(1000) / 1000
