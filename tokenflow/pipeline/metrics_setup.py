"""What an edit is measured with, opened: its source's reconstruction, the mask, and CLIP where one is named."""

import torch

from tokenflow.config import Config
from tokenflow.metrics import ClipScore, EditMetrics
from tokenflow.modes.mode import InvertedClip
from tokenflow.pipeline.masks import read_masks
from tokenflow.pipeline.preprocessing import LOSSLESS
from tokenflow.video import read_frames


def open_score(config: Config, device: torch.device) -> ClipScore | None:
    """CLIP, where the configuration names one; and a look at the mask. Called before stage 1, which takes long.

    Raises:
        ClipError, ClipNotFoundError: the mask cannot be read.
        ModelError, ModelNotFoundError: the CLIP model cannot be used.
    """
    if config.metrics.mask is not None:
        next(read_frames(config.metrics.mask))
    return None if config.metrics.clip is None else ClipScore(config.metrics.clip, config.edit.prompt, device)


def open_measures(config: Config, source: InvertedClip, score: ClipScore | None) -> EditMetrics:
    """Everything that the configuration asks for.

    Raises:
        ClipError, ClipNotFoundError: the mask cannot be read.
    """
    reconstruction = (frame.picture for frame in read_frames(source.trajectory.folder / LOSSLESS))
    mask = config.metrics.mask
    height, width = source.frames.shape[1:3]
    masks = None if mask is None else read_masks(mask, config.clip, width, height)
    return EditMetrics(reconstruction, masks, score)
