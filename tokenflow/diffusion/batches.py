"""Frames between arrays and tensors, and indices in batches."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def as_tensor(images: np.ndarray) -> "Tensor":
    """Images f H W 3 uint8 as f 3 H W in [0, 1]."""
    import torch  # here, since the web page lists models and their memory before it has torch

    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def as_images(frames: "Tensor") -> np.ndarray:
    """Frames f 3 H W in [0, 1] as f H W 3 uint8."""
    return (frames.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).byte().cpu().numpy()


AUTOENCODER_PIXELS = 2 * 512**2
"""Of the images that go through an autoencoder at once, of which one may have more: decoding a frame takes more than
ten times the memory that it takes in the network."""


def image_batches(count: int, batch_size: int, size: tuple[int, int]) -> Iterator[list[int]]:
    """Indices of `count` images for an autoencoder: groups of at most `batch_size`, and of fewer where images are
    large.

    Args:
        count: number of images.
        batch_size: images per group at most.
        size: width and height of an image, in pixels.
    """
    width, height = size
    yield from batches(range(count), max(1, min(batch_size, AUTOENCODER_PIXELS // (width * height))))


def batches(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in groups of at most `size`, in order."""
    for start in range(0, len(indices), size):
        yield list(indices[start : start + size])
