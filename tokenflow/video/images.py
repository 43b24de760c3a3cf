"""Still pictures and animations that Pillow reads, one or a folder of them.

Knows files and names. A sequence has no times of its own: it is taken to be shown at the usual rate.
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

SUFFIXES = frozenset({".png", ".apng", ".avif", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Endings of the names that are read here, in small letters."""

_UNSCALED = {"F": "floating-point numbers", "I": "32 bits"}
"""Pillow's modes of grey whose range nobody knows."""

_UNTIMED = 100
"""Milliseconds for a picture of an animation that gives none or 0, as browsers have it."""


def matching(path: Path) -> list[Path]:
    """The pictures in a folder, or those that a pattern such as `frame_%04d.png` or `*.png` names.

    Numbers in the names are counted, so that 10 comes after 9; hidden files are left out, and folders of such a name.
    """
    if path.is_dir():
        found: Iterable[Path] = path.iterdir()
    elif counter := re.search(r"%0?\d*d", path.name):
        before, after = re.escape(path.name[: counter.start()]), re.escape(path.name[counter.end() :])
        numbered = re.compile(rf"{before}\d+{after}")
        found = (file for file in _listed(path.parent) if numbered.fullmatch(file.name))
    else:
        found = path.parent.glob(path.name) if re.search(r"[*?[]", path.name) else ()
    shown = (file for file in found if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return sorted((file for file in shown if not file.is_dir()), key=_natural)


def open_sequence(files: list[Path]) -> Decoder:
    """Single pictures, one after another.

    Args:
        files: one or more, in order.

    Raises:
        ClipError: while reading, if a file is no picture or of another size than the first.
    """
    return Decoder(
        rate=DEFAULT_RATE,
        pixel_aspect=Fraction(1),
        has_audio=False,
        codec=files[0].suffix.lower().lstrip("."),
        profile=None,
        duration=len(files) / DEFAULT_RATE,
        shots=partial(_sequence, files),
    )


def open_animation(path: Path) -> Decoder:
    """A picture that may move.

    Raises:
        ClipError: it is no picture, or damaged.
    """
    with _opened(path) as image:
        durations = [_shown(each) for each in _moments(image)]
        codec = (image.format or "").lower()
    duration = sum(durations, Fraction(0))
    return Decoder(
        rate=len(durations) / duration,
        pixel_aspect=Fraction(1),
        has_audio=False,
        codec=codec,
        profile=None,
        duration=duration,
        shots=partial(_animation, path),
    )


def _sequence(files: list[Path], start: Fraction) -> Generator[DecodedFrame]:
    size: tuple[int, int] | None = None
    for number, file in enumerate(files):
        time = number / DEFAULT_RATE
        if time + 1 / DEFAULT_RATE < start:
            continue
        with _opened(file) as image:
            frame = _frame(image)
        size = size or (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            raise ClipError(
                f"{file} is {frame.width}×{frame.height}, but the first picture {size[0]}×{size[1]}; "
                "expected pictures of one size"
            )
        yield DecodedFrame(frame, time, 1 / DEFAULT_RATE)


def _animation(path: Path, start: Fraction) -> Generator[DecodedFrame]:
    time = Fraction(0)
    with _opened(path) as image:
        for moment in _moments(image):
            duration = _shown(moment)
            yield DecodedFrame(_frame(moment), time, duration)
            time += duration


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            if image.mode in _UNSCALED:
                raise ClipError(
                    f"{path} has pixels of {_UNSCALED[image.mode]}, and does not say which of them is white; save it "
                    "with 8 or 16 bits"
                )
            yield image
    except TokenflowError:
        raise
    except Exception as error:  # what a damaged file makes Pillow's readers raise is listed nowhere
        raise ClipError(
            f"{path} cannot be read ({error}); expected a picture, as its name ends in {path.suffix}; name a video .mp4"
        ) from error


def _moves(image: Image.Image) -> bool:
    """Whether it is an animation; of a photograph of several (MPO) only the first is meant to be seen."""
    return getattr(image, "is_animated", False) and image.format != "MPO"


def _moments(image: Image.Image) -> Iterator[Image.Image]:
    """The pictures in an animation, or the one there is."""
    yield from ImageSequence.Iterator(image) if _moves(image) else [image]


def _shown(image: Image.Image) -> Fraction:
    """Seconds for which a picture is shown. Pillow knows them once the picture is loaded."""
    image.load()
    if not _moves(image):
        return 1 / DEFAULT_RATE
    return Fraction(image.info.get("duration") or _UNTIMED).limit_denominator(1000) / 1000


def _frame(image: Image.Image) -> VideoFrame:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # 16 bits of grey, which Pillow would cut off instead of scaling
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        return VideoFrame.from_ndarray(np.asarray(upright.convert("RGBA")), format="rgba")
    return VideoFrame.from_ndarray(np.asarray(upright.convert("RGB")), format="rgb24")


def _listed(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Digits by their number, everything else by its letters."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
