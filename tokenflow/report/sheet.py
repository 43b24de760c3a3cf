"""Pictures side by side, and some of a clip as one sheet."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

SHEET_COLUMNS = 8
SHEET_PICTURE = 256
"""Widest a picture gets in a contact sheet, in pixels."""
LABEL_HEIGHT = 16


def side_by_side(*pictures: np.ndarray) -> np.ndarray:
    """Pictures of one height (H W 3 each) in a row."""
    return np.concatenate(pictures, axis=1)


def sheet_frames(frame_count: int) -> list[int]:
    """Which frames a contact sheet shows: evenly spread, the first and the last among them."""
    count = min(SHEET_COLUMNS, frame_count)
    return np.linspace(0, frame_count - 1, count).round().astype(int).tolist()


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]]) -> Image.Image:
    """Rows of pictures (H W 3 uint8, all of one size), each under its label."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    scale = min(1.0, SHEET_PICTURE / width)
    size = round(width * scale), round(height * scale)
    columns = max(len(pictures) for pictures in rows.values())
    sheet = Image.new("RGB", (columns * size[0], len(rows) * (size[1] + LABEL_HEIGHT)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, pictures) in enumerate(rows.items()):
        top = row * (size[1] + LABEL_HEIGHT)
        draw.text((4, top + 2), label, fill="black")
        for column, picture in enumerate(pictures):
            scaled = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
            sheet.paste(scaled, (column * size[0], top + LABEL_HEIGHT))
    return sheet
