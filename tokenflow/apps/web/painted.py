"""The painted part: a frame of the clip to paint on, and what was painted as a mask."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from PIL import Image

from tokenflow.apps.frame_numbers import frame_numbers
from tokenflow.apps.web.clips import keep_upload
from tokenflow.apps.web.imports import importing
from tokenflow.apps.web.region_fields import REGIONS
from tokenflow.apps.web.space import Space
from tokenflow.errors import ConfigError

if TYPE_CHECKING:
    from tokenflow.config import Clip

LONGER_SIDE = 960
"""Pixels of the frame that is painted on, at most."""

COLOUR = (236, 72, 153)
"""Of the brush."""

OPACITY = 0.6
"""Of the brush: what is below can be seen."""

DIMMED = 0.25
"""Brightness of what lies outside of a region."""

INSIDE = round(0.3 * 255)
"""The least opacity that counts as painted; the edges of strokes have less."""


def frame_image(clip: "Clip", number: int) -> Image.Image:
    """A frame of a clip to paint on.

    Args:
        clip: and which part of it.
        number: of the frame, counted from 0.

    Raises:
        ConfigError: the clip has no such frame.
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    with importing():
        from tokenflow.pipeline.clip import open_clip

    video = open_clip(clip)
    if number >= len(video):
        raise _mistake(f"frame {number}: the clip has {len(video)} frames; expected 0 to {len(video) - 1}")
    image = Image.fromarray(video.frames[number])
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return image


def frame_number(text: str) -> int:
    """The frame that was typed; empty for the first.

    Raises:
        ConfigError: expected one number.
    """
    numbers = frame_numbers(text) if text.strip() else [0]
    if len(numbers) != 1:
        raise _mistake(f"expected the number of one frame, counted from 0; got {text!r}")
    return numbers[0]


def same_frame(number: int, before: "Clip", after: "Clip") -> int | None:
    """The number that a frame of one part of a clip has in another part; None if it is not in it.

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    with importing():
        from tokenflow.pipeline.clip import open_clip

    if before.path != after.path:
        return None
    times, others = open_clip(before).times, open_clip(after).times
    return others.index(times[number]) if number < len(times) and times[number] in others else None


def painted_on(mask: Path, number: int) -> str:
    """What the field of the painted part holds for a mask of a frame."""
    return yaml.safe_dump({"mask": str(mask), "mask_frame": number}, default_flow_style=True, width=10**6).strip()


def keep_painted(layers: list[Image.Image], number: int, space: Space) -> str:
    """Keep what was painted as a mask in the space.

    Args:
        layers: RGBA, as large as the frame.
        number: of the frame.
        space: of the page.

    Returns:
        What the field of the painted part holds; empty if nothing was painted.
    """
    opacity = [np.asarray(layer.getchannel("A")) for layer in layers]
    mask = np.where(np.max(opacity, axis=0) >= INSIDE, 255, 0).astype(np.uint8) if opacity else np.zeros(0)
    if not mask.any():
        return ""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"mask-of-frame-{number}.png"
        Image.fromarray(mask).save(path)
        kept = keep_upload(path, space)
    return painted_on(kept, number)


def as_layer(mask: Path, size: tuple[int, int]) -> Image.Image:
    """A mask as if it had been painted, RGBA.

    Args:
        mask: an image, white inside.
        size: width and height of the frame.

    Raises:
        OSError: it cannot be read.
    """
    inside = Image.open(mask).convert("L").resize(size).point(lambda value: round(value * OPACITY))
    layer = Image.new("RGBA", size, COLOUR)
    layer.putalpha(inside)
    return layer


def dim(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A frame, dimmed outside of a region.

    Args:
        frame: H W 3 uint8.
        mask: H W uint8, 255 inside.
    """
    light = DIMMED + (1 - DIMMED) * mask[..., None] / 255  # H W 1
    return (frame * light).round().astype(np.uint8)


def what_was_painted(text: str) -> tuple[Path, int] | None:
    """The mask and its frame that the field of the painted part holds; None if it holds none."""
    try:
        held: Any = yaml.safe_load(text)
        return Path(held["mask"]), int(held["mask_frame"])
    except (yaml.YAMLError, TypeError, LookupError, ValueError):
        return None


def _mistake(text: str) -> ConfigError:
    return ConfigError(f"{REGIONS}: {text}", [f"{REGIONS}: {text}"])
