"""The disk space that an edit takes, estimated from a few frames of its clip, encoded as its results will be."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tokenflow.config import Config, Edit
from tokenflow.correspondence.flow import FIELD_BYTES, FLOW_STEP_BYTES, flow_resolution
from tokenflow.models.sizes import is_few_step, sizes_of
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.inversion import working_size
from tokenflow.pipeline.output import comparison_name, edited_name, region_name
from tokenflow.pipeline.reconstruction import LOSSLESS, RECONSTRUCTION
from tokenflow.pipeline.regions import regions_of
from tokenflow.pipeline.stages import strength_of
from tokenflow.pipeline.wiring import DEFAULT_INTERVAL
from tokenflow.propagation.keyframes import draw_keyframes, frame_pairs
from tokenflow.propagation.pixels.dense_flow import estimation_size
from tokenflow.regions.given import read_masks, scaled
from tokenflow.report import contact_sheet, sheet_frames, side_by_side
from tokenflow.report.sheet import MAX_COLUMNS, marked
from tokenflow.store.kept_pairs import index_bytes
from tokenflow.video import VideoWriter, resize, restore
from tokenflow.video.shots import shots_of

SAMPLE = 12
"""Frames that are encoded for an estimate."""

PAGE_BYTES, PAGE_BYTES_PER_FRAME = 25_000, 900
"""Of report.html without what it embeds, report.json and config.yaml."""

GRAIN = 0.4
"""Standard deviation, of 255, of the grain by which an edit is estimated to differ from its source: what a network
decodes has no flat areas, and PNGs of a drawn clip are a third larger for it."""

EMBEDDED = 4 / 3
"""Size of a file embedded in a page (base64), of its size on disk."""


REGION_SHARE = 1 / 3
"""Of the frame's shorter side: the radius of the disc that stands for a region that a model finds."""

COPIES = 4
"""Of all latents in float32 while an edit is sampled: before and after a step, the last checkpoint and the next."""


@dataclass(frozen=True)
class DiskSpace:
    """Bytes on disk, roughly.

    Attributes:
        inversion: the stored inversion, with the videos of its check.
        flow: optical flow that stays with it.
        scratch: files that exist only while the edit runs.
        result: the result folder.
    """

    inversion: int
    flow: int
    scratch: int
    result: int


def disk_space(config: Config) -> DiskSpace:
    """What an edit takes.

    Raises:
        ClipError, ClipNotFoundError: the clip or a mask cannot be read.
        ConfigError: a mask does not fit the clip.
    """
    frames, width, height = dimensions(config)
    sizes = sizes_of(config.model.path)
    latents = 4 * sizes.latent_channels * (width // sizes.latent_scale) * (height // sizes.latent_scale)  # bytes
    clip = config.clip
    sample = [each.image for each in islice(open_clip(clip), SAMPLE)]
    working = [resize(image, width, height, clip.resize) for image in sample]
    source_height, source_width = sample[0].shape[:2]
    masks = _masks(config, len(sample), (source_width, source_height))
    edited = _grainy(working, masks)
    # Without an inversion only clean latents are kept.
    inverted = config.edit.needs_inversion and not is_few_step(config.model.path, config.model.few_step)
    checked = (
        _video_bytes(working, frames, RECONSTRUCTION) + _video_bytes(working, frames, LOSSLESS, codec="ffv1")
        if config.inversion.check and inverted
        else 0
    )
    levels = config.inversion.steps + 1 if inverted else 1
    inversion = inversion_bytes(frames, (width, height), latents // 4, levels) + checked
    restored = [restore(image, source_width, source_height, clip.resize) for image in edited]
    result = _result_bytes(config, working, edited, restored, masks, frames)
    if masks is not None:
        shown = [np.repeat(mask[..., None], 3, axis=2) for mask in masks]
        form = {"codec": config.output.codec, "quality": config.output.quality}
        result += _video_bytes(shown, frames, region_name(config.output), **form)
    flow = flow_bytes(config.edit, frames, clip.cuts, (width, height), sizes.latent_scale)
    scratch = COPIES * frames * latents + flow + _region_scratch(config.edit, frames, (source_width, source_height))
    return DiskSpace(round(inversion), flow, scratch, round(result))


def inversion_bytes(frames: int, size: tuple[int, int], latent_numbers: int, levels: int) -> int:
    """Of a stored inversion without the videos of its check.

    The clean latents and those of the first noisy level are in float32, all others in float16.

    Args:
        frames: of the clip.
        size: working size in pixels.
        latent_numbers: numbers in the latents of a frame.
        levels: with the clean one.
    """
    return frames * (3 * size[0] * size[1] + 2 * (levels + min(levels, 2)) * latent_numbers)


def sheet_bytes(config: Config, rows: int) -> int:
    """Of an image of some frames of the clip in so many rows, as trials and sheets of seeds are.

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    frames, width, height = dimensions(config)
    indices = set(sheet_frames(frames))
    read = (each.image for index, each in enumerate(open_clip(config.clip)) if index in indices)
    shown = [resize(image, width, height, config.clip.resize) for image in read]
    images = {str(row): _grainy(shown, None) if row else shown for row in range(rows)}
    return _png_bytes(contact_sheet(images))


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


def _grainy(images: list[np.ndarray], masks: list[np.ndarray] | None) -> list[np.ndarray]:
    """Images as hard to encode as an edit of them, which changes something inside of masks only (H W uint8)."""
    rng = np.random.default_rng(0)
    grainy = []
    for index, image in enumerate(images):
        grain = rng.normal(0, GRAIN, image.shape)
        if masks is not None:
            grain *= cv2.resize(masks[index], image.shape[1::-1])[..., None] > 0
        grainy.append(np.clip(image + grain, 0, 255).round().astype(np.uint8))
    return grainy


def _masks(config: Config, count: int, size: tuple[int, int]) -> list[np.ndarray] | None:
    """What the regions of an edit look like in the first frames, H W uint8 at the source's size; None without any.

    A disc that moves stands for a region that a model finds.
    """
    if not config.edit.regions:
        return None
    video = open_clip(config.clip)
    together = [np.zeros(size[::-1], np.uint8) for _ in range(count)]
    for region in regions_of(config.edit):
        mask = None if isinstance(region, str) else region.mask
        given = None if mask is None else read_masks(mask, video)
        for index, each in enumerate(together):
            if given is None:
                centre = size[0] // 2 + index, size[1] // 2
                cv2.circle(each, centre, round(REGION_SHARE * min(size)), 255, cv2.FILLED)
            else:
                np.maximum(each, scaled(given[min(index, len(given) - 1)], *size), out=each)
    return together


def flow_bytes(
    edit: Edit, frames: int, cuts: Sequence[int] | str, size: tuple[int, int], pixels_per_latent: int
) -> int:
    """Of flow between neighbours, and of the fields between each frame and its keyframes in all steps.

    Cuts that are not given are taken for none.
    """
    if edit.propagation == "none" or edit.correspondence != "flow" or edit.mode == "keyframes":
        return 0
    shots = shots_of(frames, () if isinstance(cuts, str) else cuts)
    interval = edit.keyframe_interval or min(DEFAULT_INTERVAL, frames)
    first_step = edit.steps - max(1, round(edit.steps * strength_of(edit)))
    pairs = {
        pair
        for shot in shots
        for step in range(first_step, edit.steps)
        for pair in frame_pairs(shot, [shot[each] for each in draw_keyframes(len(shot), interval, edit.seed, step)])
    }
    if not pairs:
        return 0
    width, height = (side // pixels_per_latent for side in size)
    resolution = flow_resolution(size[1], height)
    neighbours = sum(len(shot) - 1 for shot in shots)
    steps = neighbours * FLOW_STEP_BYTES * resolution**2 * width * height
    return steps + len(pairs) * FIELD_BYTES * width * height + index_bytes(neighbours) + index_bytes(len(pairs))


def _region_scratch(edit: Edit, frames: int, size: tuple[int, int]) -> int:
    """Of masks at the source's size (width and height), and of the frames along whose flow single ones are carried."""
    if not edit.regions:
        return 0
    carried = 0 if edit.regions == "auto" else sum(each.mask_frame is not None for each in edit.regions)
    return frames * (math.prod(size) * (1 + carried) + math.prod(estimation_size(*size)) * carried)


def _result_bytes(
    config: Config,
    working: list[np.ndarray],
    edited: list[np.ndarray],
    restored: list[np.ndarray],
    masks: list[np.ndarray] | None,
    frames: int,
) -> float:
    """Of the videos, images and reports of a result, from frames of the source at the working size, and of the edit at
    the working size and at the source's, and masks of what it may change."""
    output = config.output
    form = {"codec": output.codec, "quality": output.quality}
    pairs = [side_by_side(*pair) for pair in zip(working, edited, strict=True)]
    compared = _video_bytes(pairs, frames, comparison_name(output), **form) if output.comparison else 0
    shown = [index % len(working) for index in range(min(MAX_COLUMNS, frames))]
    rows = {name: [row[index] for index in shown] for name, row in (("source", working), ("edit", edited))}
    if masks is not None:
        rows["region"] = [
            marked(working[index], cv2.resize(masks[index], working[index].shape[1::-1])) for index in shown
        ]
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
