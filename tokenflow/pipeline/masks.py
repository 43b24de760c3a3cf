"""Masks for metrics, white where an edit is meant to change something: one image for all frames, or one per frame."""

from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path

import numpy as np

from tokenflow.config import Clip
from tokenflow.video import Frame, read_frames, resize


def read_masks(path: Path, part: Clip, width: int, height: int) -> Iterator[np.ndarray]:
    """The mask of each frame of a part of the clip, H W in [0, 1], resized as the clip is.

    Raises:
        ClipError, ClipNotFoundError: it cannot be read.
    """

    def as_mask(frame: Frame) -> np.ndarray:
        return resize(frame.image, width, height, part.resize).mean(-1) / 255

    frames = _of_part(path, part)
    return map(as_mask, frames) if frames else repeat(as_mask(next(read_frames(path, background="black"))))


def count_masks(path: Path, part: Clip) -> int | None:
    """How many frames of a part of the clip have a mask; None if one image is for all."""
    frames = _of_part(path, part)
    return sum(1 for _ in frames) if frames else None


def _of_part(path: Path, part: Clip) -> Iterator[Frame] | None:
    if len(list(islice(read_frames(path, background="black"), 2))) == 1:
        return None
    return read_frames(path, start=part.start, frames=part.frames, every=part.every, rate=part.rate, background="black")
