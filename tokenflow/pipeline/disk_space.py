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
from tokenflow.models.sizes import is_few_step, sizes_of
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.inversion import working_size
from tokenflow.pipeline.output import comparison_name, edited_name
from tokenflow.pipeline.reconstruction import LOSSLESS, RECONSTRUCTION
from tokenflow.report import contact_sheet, side_by_side
from tokenflow.report.sheet import MAX_COLUMNS
from tokenflow.video import VideoWriter, resize, restore

SAMPLE = 12
"""Frames that are encoded for an estimate."""

PAGE_BYTES, PAGE_BYTES_PER_FRAME = 25_000, 900
"""Of report.html without what it embeds, report.json and config.yaml."""

GRAIN = 0.4
"""Standard deviation, of 255, of the grain by which an edit is estimated to differ from its source: what a network
decodes has no flat areas, and PNGs of a drawn clip are a third larger for it."""

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
    edited = _grainy(working)
    # Without an inversion only clean latents are kept.
    inverted = config.edit.needs_inversion and not is_few_step(config.model.path, config.model.few_step)
    checked = (
        _video_bytes(working, frames, RECONSTRUCTION) + _video_bytes(working, frames, LOSSLESS, codec="ffv1")
        if config.inversion.check and inverted
        else 0
    )
    levels = config.inversion.steps + 1 if inverted else 1
    # The clean latents and those of the first noisy level are in float32, all others in float16.
    inversion = frames * (3 * width * height + (levels + min(levels, 2)) / 2 * latents) + checked
    height, width = sample[0].shape[:2]
    restored = [restore(image, width, height, clip.resize) for image in edited]
    result = _result_bytes(config, working, edited, restored, frames)
    return DiskSpace(round(inversion), 2 * frames * latents, round(result))


def dimensions(config: Config) -> tuple[int, int, int]:
    """The number of frames to edit, and the working width and height, without loading the model."""
    clip, sizes = config.clip, sizes_of(config.model.path)
    video = open_clip(clip)
    if video.info is None or video.info.duration is None:
        available = len(video)
    else:
        available = max(1, round(max(0.0, float(video.info.duration) - clip.start) * float(video.rate)))
    frames = min(available, clip.frames or available)
    return frames, *working_size(video, sizes.native, sizes.multiple, clip.size)


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, which need not exist yet."""
    path = folder.absolute()
    return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free


def _grainy(images: list[np.ndarray]) -> list[np.ndarray]:
    """Images as hard to encode as an edit of them."""
    rng = np.random.default_rng(0)
    return [np.clip(image + rng.normal(0, GRAIN, image.shape), 0, 255).round().astype(np.uint8) for image in images]


def _result_bytes(
    config: Config,
    working: list[np.ndarray],
    edited: list[np.ndarray],
    restored: list[np.ndarray],
    frames: int,
) -> float:
    """Of the videos, images and reports of a result, from frames of the source at the working size, and of the edit at
    the working size and at the source's."""
    output = config.output
    form = {"codec": output.codec, "quality": output.quality}
    pairs = [side_by_side(*pair) for pair in zip(working, edited, strict=True)]
    compared = _video_bytes(pairs, frames, comparison_name(output), **form) if output.comparison else 0
    shown = [index % len(working) for index in range(min(MAX_COLUMNS, frames))]
    rows = {name: [row[index] for index in shown] for name, row in (("source", working), ("edit", edited))}
    sheet = _png_bytes(contact_sheet(rows)) if output.contact_sheet else 0
    page = PAGE_BYTES + PAGE_BYTES_PER_FRAME * frames + (EMBEDDED * (compared + sheet) if output.page else 0)
    pngs = _png_bytes(Image.fromarray(restored[0])) * frames if output.pngs else 0
    return _video_bytes(restored, frames, edited_name(output), **form) + compared + sheet + page + pngs


def _video_bytes(sample: list[np.ndarray], frames: int, name: str, **form: Any) -> float:
    """Of a video of this name with so many frames like those of the sample.

    The first takes more than each later one.
    """
    first, whole = _encoded_bytes(sample[:1], name, **form), _encoded_bytes(sample, name, **form)
    later = (whole - first) / (len(sample) - 1) if len(sample) > 1 else 0
    return first + later * (frames - 1)


def _encoded_bytes(images: list[np.ndarray], name: str, **form: Any) -> int:
    """Of a video of some images."""
    height, width = images[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with VideoWriter(path, width=width, height=height, rate=10, **form) as video:
            for image in images:
                video.write(image)
        return path.stat().st_size


def _png_bytes(image: Image.Image) -> int:
    content = BytesIO()
    image.save(content, "png")
    return len(content.getvalue())
