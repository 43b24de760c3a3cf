"""What a run leaves for its user to see: report.json, the contact sheet, pictures side by side. Knows no model."""

import importlib.metadata
import json
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

PACKAGES = ("tokenflow", "torch", "diffusers", "transformers", "opencv-python", "av", "kornia", "numpy")
SHEET_COLUMNS = 8
SHEET_PICTURE = 256
"""Widest a picture gets in a contact sheet, in pixels."""
LABEL_HEIGHT = 16


class Stopwatch:
    """Seconds and peak memory of the stages of a run."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, and add it to the stage of that name."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def figures(self) -> dict[str, Any]:
        """`seconds` by stage, and the process's `peak_memory_mb` so far (resident, and on the GPU if there is one)."""
        figures: dict[str, Any] = {
            "seconds": {name: round(seconds, 2) for name, seconds in self._seconds.items()},
            "peak_memory_mb": round(peak_memory_mb()),
        }
        if torch.cuda.is_available():
            figures["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
        return figures


def peak_memory_mb() -> float:
    """The largest resident size this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


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
