"""Decoding of still images and animations with Pillow, one file or a sequence of files.

A sequence has no times of its own and is shown at the default rate.
"""

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageOps, ImageSequence

from tokenflow.errors import ClipError, TokenflowError
from tokenflow.video.decoder import DEFAULT_RATE, DecodedFrame, Decoder

IMAGE_SUFFIXES = frozenset({".png", ".apng", ".avif", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""File extensions that count as images, in lower case."""

_UNSCALED_MODES = {"F": "floating-point numbers", "I": "32-bit integers"}
"""Pillow's greyscale modes without a defined value range."""

_DEFAULT_DELAY = 100
"""Milliseconds for which an animation frame with a delay of 0 or none is shown, as in browsers."""


def find_images(path: Path) -> list[Path]:
    """The images in a folder, or those that match a pattern such as `frame_%04d.png` or `*.png`.

    They are sorted with numbers compared by value, so that 10 comes after 9. Hidden files and folders are left out.
    """
    if path.is_dir():
        found: Iterable[Path] = path.iterdir()
    elif counter := re.search(r"%0?\d*d", path.name):
        before, after = re.escape(path.name[: counter.start()]), re.escape(path.name[counter.end() :])
        numbered = re.compile(rf"{before}\d+{after}")
        found = (file for file in _list_folder(path.parent) if numbered.fullmatch(file.name))
    else:
        found = path.parent.glob(path.name) if re.search(r"[*?[]", path.name) else ()
    visible = (file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."))
    return sorted((file for file in visible if not file.is_dir()), key=_natural_key)


def open_sequence(files: list[Path]) -> Decoder:
    """A decoder for a sequence of images.

    Args:
        files: one or more, in order.

    Raises:
        ClipError: during decoding, if a file is not an image or differs in size from the first.
    """
    return Decoder(
        rate=DEFAULT_RATE,
        pixel_aspect=Fraction(1),
        has_audio=False,
        codec=files[0].suffix.lower().lstrip("."),
        profile=None,
        duration=len(files) / DEFAULT_RATE,
        decode=partial(_decode_sequence, files),
    )


def open_animation(path: Path) -> Decoder:
    """A decoder for one image file, animated or still.

    Raises:
        ClipError: the file is damaged or not an image.
    """
    with _open_image(path) as image:
        durations = [_frame_duration(each) for each in _animation_frames(image)]
        codec = (image.format or "").lower()
    duration = sum(durations, Fraction(0))
    return Decoder(
        rate=len(durations) / duration,
        pixel_aspect=Fraction(1),
        has_audio=False,
        codec=codec,
        profile=None,
        duration=duration,
        decode=partial(_decode_animation, path),
    )


def _decode_sequence(files: list[Path], start: Fraction) -> Generator[DecodedFrame]:
    size: tuple[int, int] | None = None
    for index, file in enumerate(files):
        time = index / DEFAULT_RATE
        if time + 1 / DEFAULT_RATE < start:
            continue
        with _open_image(file) as image:
            frame = _to_video_frame(image)
        size = size or (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            raise ClipError(
                f"{file} is {frame.width}×{frame.height}, but the first image is {size[0]}×{size[1]}; "
                "expected images of one size"
            )
        yield DecodedFrame(frame, time, 1 / DEFAULT_RATE)


def _decode_animation(path: Path, start: Fraction) -> Generator[DecodedFrame]:
    time = Fraction(0)
    with _open_image(path) as image:
        for each in _animation_frames(image):
            duration = _frame_duration(each)
            yield DecodedFrame(_to_video_frame(each), time, duration)
            time += duration


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            if image.mode in _UNSCALED_MODES:
                raise ClipError(
                    f"{path} stores pixels as {_UNSCALED_MODES[image.mode]}, for which no value is defined as white; "
                    "save it with 8 or 16 bits"
                )
            yield image
    except TokenflowError:
        raise
    except Exception as error:  # Pillow does not document which exceptions damaged files raise
        raise ClipError(
            f"{path} cannot be read ({error}); expected an image, as its name ends in {path.suffix}; "
            "if it is a video, rename it, for example to .mp4"
        ) from error


def _is_animated(image: Image.Image) -> bool:
    """Whether the image is an animation; an MPO is a photograph with further views, of which only the first counts."""
    return getattr(image, "is_animated", False) and image.format != "MPO"


def _animation_frames(image: Image.Image) -> Iterator[Image.Image]:
    """The frames of an animation, or the one image."""
    yield from ImageSequence.Iterator(image) if _is_animated(image) else [image]


def _frame_duration(image: Image.Image) -> Fraction:
    """Seconds for which an image is shown."""
    image.load()  # only then does Pillow know the duration
    if not _is_animated(image):
        return 1 / DEFAULT_RATE
    return Fraction(image.info.get("duration") or _DEFAULT_DELAY).limit_denominator(1000) / 1000


def _to_video_frame(image: Image.Image) -> VideoFrame:
    """An upright frame, in RGB or RGBA."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # 16-bit greyscale, which Pillow would clip instead of scaling
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        return VideoFrame.from_ndarray(np.asarray(upright.convert("RGBA")), format="rgba")
    return VideoFrame.from_ndarray(np.asarray(upright.convert("RGB")), format="rgb24")


def _list_folder(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """A sort key that compares digits by their number and other text by its characters."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
