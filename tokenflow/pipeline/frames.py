"""An edited frame at both sizes: the one it was made at, and the source's."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tokenflow.diffusion.batches import as_images, image_batches
from tokenflow.diffusion.latents import Latents
from tokenflow.events import Listener, progress
from tokenflow.modes.source import InvertedClip
from tokenflow.video import crop_like, restore


@dataclass(frozen=True, eq=False)
class EditedFrame:
    """One frame of an edit.

    Attributes:
        decoded: H W 3 uint8 at the working size.
        image: H W 3 uint8 at the source's size; with `resize="fill"`, of the part that was kept.
        decoded_mask, mask: H W uint8, the regions of the edit at either size, 255 inside; None without regions.
    """

    decoded: np.ndarray
    image: np.ndarray
    decoded_mask: np.ndarray | None = None
    mask: np.ndarray | None = None


def decode(source: InvertedClip, latents: Latents, batch_size: int, on_event: Listener | None) -> Iterator[np.ndarray]:
    """The frames of some latents one by one, H W 3 uint8 at the working size."""
    with progress("decode", len(latents), on_event) as advance:
        for indices in image_batches(len(latents), batch_size, source.size):
            yield from as_images(source.model.decode(latents[indices]))
            advance(len(indices))


def kept_part(frame: np.ndarray, source: InvertedClip) -> np.ndarray:
    """The part of a source frame at full size (H W …) that an edit gives back: all but what `resize="fill"` crops."""
    if source.resize != "fill":
        return frame
    width, height = source.size
    return crop_like(frame, restore(np.zeros((height, width, 3), np.uint8), *source.video.size, source.resize))


def restored(source: InvertedClip, decoded: Iterator[np.ndarray]) -> Iterator[EditedFrame]:
    """Frames at the working size, brought back to the source's."""
    for image in decoded:
        yield EditedFrame(image, restore(image, *source.video.size, source.resize))
