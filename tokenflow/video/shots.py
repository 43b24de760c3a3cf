"""Shots: the parts of a clip between its cuts."""

from collections.abc import Sequence
from itertools import pairwise

from tokenflow.errors import ConfigError


def shots_of(frame_count: int, cuts: Sequence[int]) -> tuple[range, ...]:
    """The frames of each shot, in order.

    Args:
        frame_count: of the clip.
        cuts: the frames at which shots begin, but for the first; in order.
    """
    return tuple(range(*bounds) for bounds in pairwise([0, *cuts, frame_count]))


def check_cuts(cuts: Sequence[int], frame_count: int) -> None:
    """Check that cuts lie in a clip of so many frames.

    Raises:
        ConfigError: one does not, or they are not in order.
    """
    for before, cut in pairwise([0, *cuts]):
        if not before < cut < frame_count:
            raise ConfigError(
                f"clip.cuts is {list(cuts)}, but the clip has {frame_count} frames; expected rising numbers from 1 to "
                f"{frame_count - 1}, the frames at which shots begin, counted from 0"
            )


def cuts_among(indices: Sequence[int], cuts: Sequence[int]) -> tuple[int, ...]:
    """The cuts of a clip, counted among some of its frames (rising indices): positions at which another shot begins."""
    shots = [sum(cut <= index for cut in cuts) for index in indices]
    return tuple(place for place, (before, own) in enumerate(pairwise(shots), 1) if own != before)
