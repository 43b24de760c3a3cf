"""What an edit is measured with, opened: its source's reconstruction, the mask, and CLIP where one is named."""

from collections.abc import Iterator
from functools import partial
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch

from tokenflow.config import Clip, Config
from tokenflow.errors import ConfigError
from tokenflow.metrics import ClipScore, Measures
from tokenflow.modes.base import Source
from tokenflow.pipeline.preprocessing import LOSSLESS
from tokenflow.rows import Frames
from tokenflow.video import Frame, read_frames, resize


def open_score(config: Config, device: torch.device) -> ClipScore | None:
    """CLIP, where the configuration names one; and a look at the mask. Called before stage 1, which takes long.

    Raises:
        ClipError, ClipNotFoundError: the mask cannot be read.
        ModelError, ModelNotFoundError: the CLIP model cannot be used.
    """
    if config.metrics.mask is not None:
        next(read_frames(config.metrics.mask))
    return None if config.metrics.clip is None else ClipScore(config.metrics.clip, config.edit.prompt, device)


def open_measures(config: Config, source: Source, score: ClipScore | None) -> Measures:
    """Everything that the configuration asks for. Called before sampling, so that what is missing is said before it.

    Raises:
        ConfigError: the mask has another number of frames than the clip.
    """
    reconstruction = (frame.picture for frame in read_frames(source.trajectory.folder / LOSSLESS))
    mask = config.metrics.mask
    return Measures(reconstruction, None if mask is None else _masks(mask, config.clip, source.frames), score)


def _masks(path: Path, part: Clip, frames: Frames) -> Iterator[np.ndarray]:
    """The mask of each frame, H W in [0, 1] at the model's size."""
    height, width = frames.shape[1:3]

    def as_mask(frame: Frame) -> np.ndarray:
        return resize(frame.picture, width, height, part.resize).mean(-1) / 255

    first, *more = islice(read_frames(path), 2)
    if not more:
        return repeat(as_mask(first))
    read = partial(read_frames, path, start=part.start, frames=part.frames, every=part.every)
    count = sum(1 for _ in read())
    if count != len(frames):
        raise ConfigError(
            f"metrics.mask has {count} frames where the clip has {len(frames)}; give it as many, or one for all"
        )
    return map(as_mask, read())
