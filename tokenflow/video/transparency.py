"""Transparency: what is seen of a background, and the way back."""

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from tokenflow.errors import ConfigError

Alpha = NDArray[np.uint8]
"""(H W): 0 is transparent, 255 opaque. Not premultiplied."""

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

BLACK: Colour = (0, 0, 0)


def parse_colour(text: str) -> Colour:
    """A colour from its name in CSS or its hexadecimal digits, such as `white` or `#ff8000`.

    Raises:
        ConfigError: it is neither.
    """
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ConfigError(f"expected a colour such as white or '#ff8000'; got {text!r}") from None


def composite(image: NDArray[np.uint8], alpha: Alpha, background: Colour) -> NDArray[np.uint8]:
    """An image (H W 3) over a background of one colour."""
    opacity = alpha[..., None].astype(np.uint32)  # H W 1
    behind = np.array(background, dtype=np.uint32)
    return ((image * opacity + behind * (255 - opacity) + 127) // 255).astype(np.uint8)


def uncomposite(shown: NDArray[np.uint8], alpha: Alpha, background: Colour) -> NDArray[np.uint8]:
    """The image (H W 3) that gives what is shown when it is composited; the inverse of `composite`."""
    opacity = np.maximum(alpha, 1)[..., None].astype(np.float32) / 255  # H W 1
    behind = np.array(background, dtype=np.float32)
    image = behind + (shown - behind) / opacity
    return np.where(alpha[..., None] > 0, image.round().clip(0, 255), shown).astype(np.uint8)
