"""Pictures side by side, and some of a clip as one sheet."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

SHEET_COLUMNS = 8
SHEET_PICTURE = 256
"""Widest a picture gets in a contact sheet, in pixels."""
LABEL_HEIGHT = 16
LABEL_SIZE = 11
"""Of its letters, in pixels."""
LABEL_FONTS = "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "arial.ttf"
"""Fonts of Linux, macOS and Windows that know more letters than the one in Pillow, which has no accents; the one with
the most comes first."""


def side_by_side(*pictures: np.ndarray) -> np.ndarray:
    """Pictures of one height (H W 3 each) in a row."""
    return np.concatenate(pictures, axis=1)


def sheet_frames(frame_count: int) -> list[int]:
    """Which frames a contact sheet shows: evenly spread, the first and the last among them."""
    count = min(SHEET_COLUMNS, frame_count)
    return np.linspace(0, frame_count - 1, count).round().astype(int).tolist()


def label_font() -> ImageFont.ImageFont | FreeTypeFont:
    """The first of LABEL_FONTS that the system has, or Pillow's own; letters that it lacks become boxes."""
    for name in LABEL_FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, LABEL_SIZE)
    return ImageFont.load_default(LABEL_SIZE)


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]]) -> Image.Image:
    """Rows of pictures (H W 3 uint8, all of one size), each under its label."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    scale = min(1.0, SHEET_PICTURE / width)
    size = round(width * scale), round(height * scale)
    columns = max(len(pictures) for pictures in rows.values())
    sheet = Image.new("RGB", (columns * size[0], len(rows) * (size[1] + LABEL_HEIGHT)), "white")
    draw, font = ImageDraw.Draw(sheet), label_font()
    for row, (label, pictures) in enumerate(rows.items()):
        top = row * (size[1] + LABEL_HEIGHT)
        draw.text((4, top + LABEL_HEIGHT // 2), label, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            scaled = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
            sheet.paste(scaled, (column * size[0], top + LABEL_HEIGHT))
    return sheet
