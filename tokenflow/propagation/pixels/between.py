"""An edit made steadier after decoding: what some of its frames add to the source, carried to those between."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

import cv2
import numpy as np

from tokenflow.diffusion.latents import Frames
from tokenflow.propagation.pixels.edited_frames import Differences, Edit, closeness, same_edges, smooth_step

SOFT = 1.5
"""Pixels over which what was carried fades into the frame's own edit."""

FLICKER, ANOTHER = 12.0, 24.0
"""Of 255: up to the first, what was carried differs from the frame's own edit by flicker; from the second on it shows
something else, such as what another frame has behind the object."""


def carry_between(
    source: Frames, edited: Iterable[np.ndarray], shots: Sequence[range], interval: int
) -> Iterator[np.ndarray]:
    """Carry every n-th frame of an edit, and the last of each shot, to the frames between.

    These take the difference of edit and source along optical flow, blended by distance. A frame's own edit stays
    where flow is not sure, where it has other edges than the source (another shape, a new texture), and where what was
    carried differs from it by more than flicker.

    Args:
        source: f H W 3 uint8.
        edited: the same frames, edited, H W 3 uint8 each.
        shots: the frames of each shot, in order; nothing is carried from one to another.
        interval: n, at least 1.

    Yields:
        Each frame, H W 3 uint8; those that are carried come back as they are.
    """
    images = iter(edited)
    for shot in shots:
        ends = [*range(shot.start, shot.stop - 1, interval), shot.stop - 1]
        first = next(images)
        for begin, end in pairwise(ends):
            segment = [first, *islice(images, end - begin)]
            yield first
            yield from _between(np.stack([source[index] for index in range(begin, end + 1)]), segment)
            first = segment[-1]
        yield first


def _between(source: np.ndarray, edited: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The inner frames of a few, made from the first and the last; f H W 3 uint8."""
    last = len(edited) - 1
    edits = {index: Edit(source[index].astype(np.float32), edited[index].astype(np.float32)) for index in (0, last)}
    differences = Differences(source, edits, None)
    for index in range(1, last):
        own = Edit(source[index].astype(np.float32), edited[index].astype(np.float32))
        carried, certain = differences(index, closeness(index, [0, last]))
        apart = cv2.GaussianBlur(np.abs(carried - own.edited).max(-1), (0, 0), 1.0)  # H W
        share = certain * same_edges(own) * (1 - smooth_step(apart, FLICKER, ANOTHER))
        share = cv2.GaussianBlur(share, (0, 0), SOFT)[..., None]  # H W 1
        image = share * carried + (1 - share) * own.edited
        yield np.clip(image, 0, 255).round().astype(np.uint8)
