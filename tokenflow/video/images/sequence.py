"""Sequences of image files."""

from collections.abc import Generator
from fractions import Fraction
from functools import partial
from pathlib import Path

from tokenflow.errors import ClipError
from tokenflow.events import notice
from tokenflow.video.decoder import DecodedFrame, Decoder
from tokenflow.video.images.files import missing_numbers
from tokenflow.video.images.pixels import open_image, to_video_frame


def open_sequence(files: list[Path], rate: Fraction) -> Decoder:
    """A decoder for a sequence of images.

    Args:
        files: one or more, in order.
        rate: frames per second.

    Raises:
        ClipError: during decoding, if a file is not an image or differs in size from the first.
    """
    return Decoder(
        rate=rate,
        pixel_aspect=Fraction(1),
        has_audio=False,
        codec=files[0].suffix.lower().lstrip("."),
        profile=None,
        duration=len(files) / rate,
        decode=partial(_decode, files, rate),
    )


def _decode(files: list[Path], rate: Fraction, start: Fraction) -> Generator[DecodedFrame]:
    size: tuple[int, int] | None = None
    gaps = missing_numbers(files)
    for index, file in enumerate(files):
        if (index + 1) / rate < start:
            continue
        with open_image(file) as image:
            frame = to_video_frame(image)
        size = size or (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            raise ClipError(
                f"{file} is {frame.width}×{frame.height}, but the first image is {size[0]}×{size[1]}; "
                "expected images of one size"
            )
        yield DecodedFrame(frame, index / rate, 1 / rate)
        if index in gaps:
            notice(
                f"{file.parent} lacks {gaps[index]} of its numbered images between {file.name} and "
                f"{files[index + 1].name}; what follows is shown that much earlier"
            )
