"""Frames between file and network: 8-bit arrays ⇄ tensors, in batches, with a progress bar. Knows neither."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tokenflow.events import Progress, progress_bar


def as_tensor(pictures: np.ndarray) -> Tensor:
    """Pictures f H W 3 uint8 as f 3 H W in [0, 1]."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255


def as_images(frames: Tensor) -> np.ndarray:
    """Frames f 3 H W in [0, 1] as f H W 3 uint8."""
    return (frames.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).byte().cpu().numpy()


def batches(frames: Sequence[int], size: int) -> Iterator[list[int]]:
    """Frames in groups of at most `size`, in order."""
    for start in range(0, len(frames), size):
        yield list(frames[start : start + size])


def batches_with_bar(frame_count: int, batch_size: int, label: str, progress: Progress) -> Iterator[list[int]]:
    """Frames in batches, with a progress bar over frames."""
    with progress_bar(label, frame_count, "frame", progress) as advance:
        for group in batches(range(frame_count), batch_size):
            yield group
            advance(len(group))
