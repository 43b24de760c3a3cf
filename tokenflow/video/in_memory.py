"""Frames, opacity and times given in memory, checked."""

from collections.abc import Sequence
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
import torch

from tokenflow.errors import ClipError
from tokenflow.video.resampling import MIN_RATE, exact_rate


def checked_alpha(alpha: np.ndarray | None, images: np.ndarray) -> np.ndarray | None:
    """Opacity f H W uint8 of frames f H W 3.

    Raises:
        ClipError: it is not as described.
    """
    if alpha is not None and (alpha.shape != images.shape[:3] or alpha.dtype != np.uint8):
        raise ClipError(f"expected an alpha of {images.shape[:3]}, uint8; got {alpha.shape}, {alpha.dtype}")
    return alpha


def as_images(frames: Any) -> np.ndarray:
    """Frames as f H W 3 uint8; floating point in [0, 1] is scaled.

    Raises:
        ClipError: they are not as described.
    """
    if isinstance(frames, torch.Tensor):
        frames = frames.detach().cpu()
        frames = frames.float() if frames.is_floating_point() else frames
    try:
        images = np.asarray(frames)
    except ValueError as error:
        raise ClipError(f"expected frames of shape (frames, height, width, 3), all of one size ({error})") from error
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise ClipError(f"expected frames of shape (frames, height, width, 3); got {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ClipError(f"expected uint8 frames, or floating point in [0, 1]; got {images.dtype}")
    if not (images.min() >= 0 and images.max() <= 1):  # also refuses NaN
        raise ClipError(f"expected floating-point frames in [0, 1]; got values from {images.min()} to {images.max()}")
    return (images * 255).round().astype(np.uint8)


def frame_times(
    count: int, rate: Fraction | float | None, times: Sequence[Fraction] | None, end: Fraction | None
) -> tuple[tuple[Fraction, ...], Fraction]:
    """Seconds at which each frame is shown, and at which the last one ends.

    Raises:
        ClipError: neither or both of rate and times are given, or they do not fit the frames.
    """
    if (rate is None) == (times is None):
        raise ClipError("expected either a rate or times; got " + ("neither" if rate is None else "both"))
    if times is None:
        if not isinstance(rate, Real) or not MIN_RATE <= rate < float("inf"):
            raise ClipError(f"expected a rate of {float(MIN_RATE):g} frames per second or more; got {rate!r}")
        exact = exact_rate(rate)
        times = [index / exact for index in range(count)]
        end = count / exact if end is None else end
    try:
        times = tuple(Fraction(time) for time in times)
    except (ValueError, OverflowError, TypeError) as error:
        raise ClipError(f"expected times in seconds ({error})") from error
    if len(times) != count:
        raise ClipError(f"expected a time for each of {count} frames; got {len(times)}")
    if end is None:
        end = 2 * times[-1] - times[-2] if count > 1 else times[0] + Fraction(1, 25)
    if any(after <= before for before, after in zip(times, [*times[1:], Fraction(end)], strict=True)):
        raise ClipError("expected times that increase from frame to frame and to the end")
    return times, Fraction(end)
