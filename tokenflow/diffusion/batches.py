"""Frames between arrays and tensors, and indices in batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor


def as_tensor(images: np.ndarray) -> Tensor:
    """Images f H W 3 uint8 as f 3 H W in [0, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def as_images(frames: Tensor) -> np.ndarray:
    """Frames f 3 H W in [0, 1] as f H W 3 uint8."""
    return (frames.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).byte().cpu().numpy()


def batches(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in groups of at most `size`, in order."""
    for start in range(0, len(indices), size):
        yield list(indices[start : start + size])
