"""The duration of the last frame of an animated WebP: FFmpeg's encoder leaves it to be the mean of the others."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_MAX_DURATION = 2**24 - 1
"""Milliseconds."""


def set_end(path: Path, end: Fraction) -> None:
    """Let the last frame of a file end at a time, in seconds; a file of one frame stores no duration.

    The layout is that of https://developers.google.com/speed/webp/docs/riff_container: a header of 12 bytes, then
    chunks. That of a frame, ANMF, has its duration in milliseconds at byte 12, in 24 bits.
    """
    with path.open("r+b") as file:
        position, last, begin, following = 12, None, 0, 0
        while len(header := _read(file, position, 8)) == 8:
            kind, size = struct.unpack("<4sI", header)
            if kind == b"ANMF":
                last, begin = position + 8 + 12, following
                following += int.from_bytes(_read(file, last, 3), "little")
            position += 8 + size + size % 2
        if last is not None:
            file.seek(last)
            file.write(min(max(round(end * 1000) - begin, 1), _MAX_DURATION).to_bytes(3, "little"))


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
