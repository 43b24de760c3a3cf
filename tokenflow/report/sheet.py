"""Images side by side, and a contact sheet of some frames of a clip."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

MAX_COLUMNS = 8
MAX_IMAGE_WIDTH = 256
"""In a contact sheet, in pixels."""
DIMMED = 0.3
"""How bright an image is outside of a region, of its own brightness."""
LABEL_HEIGHT = 16
LABEL_SIZE = 11
"""Font size in pixels."""
LABEL_FONTS = "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "arial.ttf"
"""Fonts of Linux, macOS and Windows with more characters than Pillow's own, which has no accents; the one with the most
comes first."""


def side_by_side(*images: np.ndarray) -> np.ndarray:
    """Images of equal height (H W 3 each) in one row: H ΣW 3."""
    return np.concatenate(images, axis=1)


def marked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image (H W 3 uint8) that is dimmed outside of a mask (H W uint8)."""
    share = DIMMED + (1 - DIMMED) * mask[..., None] / 255
    return (image * share).round().astype(np.uint8)


def sheet_frames(frame_count: int) -> list[int]:
    """The indices of the frames in a contact sheet: evenly spread, including the first and the last."""
    count = min(MAX_COLUMNS, frame_count)
    return np.linspace(0, frame_count - 1, count).round().astype(int).tolist()


def label_font() -> ImageFont.ImageFont | FreeTypeFont:
    """The first of LABEL_FONTS that is installed, or Pillow's own; characters that it lacks become boxes."""
    for name in LABEL_FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, LABEL_SIZE)
    return ImageFont.load_default(LABEL_SIZE)


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]]) -> Image.Image:
    """Rows of images (H W 3 uint8, all of one size), each under its label."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    scale = min(1.0, MAX_IMAGE_WIDTH / width)
    size = round(width * scale), round(height * scale)
    columns = max(len(images) for images in rows.values())
    sheet = Image.new("RGB", (columns * size[0], len(rows) * (size[1] + LABEL_HEIGHT)), "white")
    draw, font = ImageDraw.Draw(sheet), label_font()
    for row, (label, images) in enumerate(rows.items()):
        top = row * (size[1] + LABEL_HEIGHT)
        draw.text((4, top + LABEL_HEIGHT // 2), label, fill="black", font=font, anchor="lm")
        for column, image in enumerate(images):
            scaled = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
            sheet.paste(scaled, (column * size[0], top + LABEL_HEIGHT))
    return sheet
