"""The disk space that an edit takes, estimated from a few frames of its clip, encoded as its results will be."""

import shutil
import tempfile
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tokenflow.config import Config
from tokenflow.models.sizes import sizes_of
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.output import comparison_name, edited_name
from tokenflow.pipeline.reconstruction import LOSSLESS, RECONSTRUCTION
from tokenflow.report import contact_sheet, side_by_side
from tokenflow.report.sheet import MAX_COLUMNS
from tokenflow.video import VideoWriter, fit_size, resize, restore

SAMPLE = 12
"""Frames that are encoded for an estimate."""

PAGE_BYTES, PAGE_BYTES_PER_FRAME = 25_000, 900
"""Of report.html without what it embeds, report.json and config.yaml."""

EMBEDDED = 4 / 3
"""Size of a file embedded in a page (base64), of its size on disk."""


@dataclass(frozen=True)
class DiskSpace:
    """Bytes on disk, roughly.

    Attributes:
        inversion: the stored inversion, with the videos of its check.
        scratch: files that exist only while the edit runs.
        result: the result folder.
    """

    inversion: int
    scratch: int
    result: int


def disk_space(config: Config) -> DiskSpace:
    """What an edit takes.

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    frames, width, height = dimensions(config)
    sizes = sizes_of(config.model.path)
    latents = 4 * sizes.latent_channels * (width // sizes.latent_scale) * (height // sizes.latent_scale)  # bytes
    clip = config.clip
    sample = [each.image for each in islice(open_clip(clip), SAMPLE)]
    working = [resize(image, width, height, clip.resize) for image in sample]
    edited = [
        restore(image, each.shape[1], each.shape[0], clip.resize) for image, each in zip(working, sample, strict=True)
    ]
    checked = (
        _video_bytes(working, frames, RECONSTRUCTION) + _video_bytes(working, frames, LOSSLESS, codec="ffv1")
        if config.inversion.check
        else 0
    )
    inversion = frames * (3 * width * height + (config.inversion.steps + 1) * latents) + checked
    return DiskSpace(round(inversion), 2 * frames * latents, round(_result_bytes(config, edited, working, frames)))


def dimensions(config: Config) -> tuple[int, int, int]:
    """The number of frames to edit, and the working width and height, without loading the model."""
    clip, sizes = config.clip, sizes_of(config.model.path)
    video = open_clip(clip)
    if video.info is None or video.info.duration is None:
        available = len(video)
    else:
        available = max(1, round(max(0.0, float(video.info.duration) - clip.start) * float(video.rate)))
    frames = min(available, clip.frames or available)
    return frames, *fit_size(*video.size, clip.size or sizes.native, sizes.multiple)


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, which need not exist yet."""
    path = folder.absolute()
    return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free


def format_bytes(count: float) -> str:
    """A number of bytes to three digits, with its unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _result_bytes(config: Config, edited: list[np.ndarray], working: list[np.ndarray], frames: int) -> float:
    """Of the videos, images and reports of a result, if the edit is as hard to encode as its source."""
    output = config.output
    form = {"codec": output.codec, "quality": output.quality}
    compared = (
        _video_bytes([side_by_side(each, each) for each in working], frames, comparison_name(output), **form)
        if output.comparison
        else 0
    )
    shown = [working[index % len(working)] for index in range(min(MAX_COLUMNS, frames))]
    sheet = _png_bytes(contact_sheet({"source": shown, "edit": shown})) if output.contact_sheet else 0
    page = PAGE_BYTES + PAGE_BYTES_PER_FRAME * frames + (EMBEDDED * (compared + sheet) if output.page else 0)
    pngs = _png_bytes(Image.fromarray(edited[0])) * frames if output.pngs else 0
    return _video_bytes(edited, frames, edited_name(output), **form) + compared + sheet + page + pngs


def _video_bytes(sample: list[np.ndarray], frames: int, name: str, **form: Any) -> float:
    """Of a video of this name with so many frames like those of the sample."""
    height, width = sample[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with VideoWriter(path, width=width, height=height, rate=10, **form) as video:
            for image in sample:
                video.write(image)
        return path.stat().st_size * frames / len(sample)


def _png_bytes(image: Image.Image) -> int:
    content = BytesIO()
    image.save(content, "png")
    return len(content.getvalue())
