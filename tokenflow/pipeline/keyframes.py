"""Edits by keyframes that were edited elsewhere: carried through the clip, with what they do not show filled in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tokenflow.config import Edit
from tokenflow.config import Keyframes as KeyframesSettings
from tokenflow.diffusion.batches import as_tensor, image_batches
from tokenflow.diffusion.latents import Frames
from tokenflow.errors import ClipNotFoundError, ConfigError, OutputError
from tokenflow.events import Cancel, Listener, notice, progress, raise_if_cancelled
from tokenflow.modes.carried import CarriedMode
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.frames import EditedFrame, kept_part
from tokenflow.pipeline.given_image import as_image
from tokenflow.propagation.pixels.edited_frames import carry, edges_kept
from tokenflow.store.files import output_errors
from tokenflow.video import Video, clip_files, resize

MIN_EDGES_KEPT = 0.25
"""Share of the source frame's edges below which an edited frame probably shows something else."""

BETTER = 0.15
"""Share of the edges by which another frame of the clip has to agree better to be named."""

COMPARED_FRAMES, COMPARED_SIDE = 24, 128
"""How many other frames an edited one is compared with, and at how many pixels of the longer side."""

ASPECT_TOLERANCE = 0.02
"""Relative difference of aspect ratios up to which an edited frame is scaled to the clip's size."""

CERTAIN = 0.5
"""Of a frame's certainty: below it, sampling decides."""

SPECK = 0.06
"""Of the longer side: uncertain places that are narrower are not sampled."""

FEATHER = 2.0
"""Pixels over which what was sampled fades into what was carried."""


@dataclass(frozen=True, eq=False)
class Keyframes:
    """A mode of `edit`: frames edited elsewhere are carried through the clip.

        tokenflow.Keyframes({0: "tiger_000.png", 23: image})

    Attributes:
        images: by frame number, counted from 0: a path, a Pillow image, or H W 3 uint8, or floating point in [0, 1].
        strength: share of the steps, in (0, 1], that fill in what no given frame shows.
    """

    images: Mapping[int, Any] = field(repr=False)
    strength: float = KeyframesSettings().strength


@dataclass(frozen=True, eq=False)
class CarriedClip:
    """A clip made from edited frames.

    Attributes:
        images: f H W 3 uint8, at the size of the source.
        uncertain: f H W bool, what neither an edited frame nor the source shows.
    """

    images: np.ndarray
    uncertain: np.ndarray

    def within(self, masks: Frames) -> "CarriedClip":
        """The same clip, in which nothing outside of masks (f H W uint8) has to be sampled."""
        uncertain = np.stack([each & (masks[index] > 0) for index, each in enumerate(self.uncertain)])
        return replace(self, uncertain=uncertain)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be sampled."""
        return not self.uncertain.any()


def keyframes_of(edit: Edit) -> Keyframes | None:
    """The mode that settings describe; None if they describe another.

    Raises:
        ClipNotFoundError: an image or the folder of images is missing.
        ConfigError: no edited frame is given, or its name does not say which it is.
    """
    if edit.mode != "keyframes":
        return None
    frames = edit.keyframes.frames
    if isinstance(frames, Path):
        frames = numbered_images(frames)
    if not frames:
        raise ConfigError(
            "edit.mode keyframes needs edited frames; set edit.keyframes.frames to {frame number: image}, or to a "
            "folder. `tokenflow keyframes` writes the frames to edit"
        )
    for path in frames.values():
        if not path.is_file():
            raise ClipNotFoundError(
                f"edit.keyframes.frames: there is no image at {path} in {Path.cwd()}; check the path"
            )
    return Keyframes(frames, edit.keyframes.strength)


def numbered_images(folder: Path) -> dict[int, Path]:
    """The images of a folder by the number at the end of their names.

    Raises:
        ClipNotFoundError: the folder is missing.
        ConfigError: a name has no number, or two have the same.
    """
    images: dict[int, Path] = {}
    if not folder.is_dir():
        raise ClipNotFoundError(
            f"edit.keyframes.frames: the folder {folder} was not found in {Path.cwd()}; check the path"
        )
    for path in clip_files(folder):
        number = re.search(r"(\d+)$", path.stem)
        if number is None:
            raise ConfigError(
                f"edit.keyframes.frames: {path.name} in {folder} has no frame number at the end of its name; name it "
                "like frame_0012.png, or list the files: {12: picture.png}"
            )
        if int(number[1]) in images:
            raise ConfigError(
                f"edit.keyframes.frames: {images[int(number[1])].name} and {path.name} in {folder} have the same "
                "frame number; remove one"
            )
        images[int(number[1])] = path
    return images


def given_images(keyframes: Keyframes, clip_size: tuple[int, int], frame_count: int) -> dict[int, np.ndarray]:
    """The edited frames at the size of the clip, H W 3 uint8 each.

    Args:
        keyframes: the mode.
        clip_size: width and height in pixels.
        frame_count: how many frames the clip has.

    Raises:
        ConfigError: there is none, the clip has no frame of that number, or an image has another aspect ratio.
        ClipError, ClipNotFoundError: an image cannot be read.
    """
    if not keyframes.images:
        raise ConfigError("expected at least one edited frame: Keyframes({0: image})")
    for index in keyframes.images:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < frame_count:
            raise ConfigError(
                f"edited frame {index!r}: the clip has {frame_count} frames; expected 0 to {frame_count - 1}"
            )
    images = sorted(keyframes.images.items())
    return {index: _scaled(as_image(given, f"edited frame {index}"), clip_size, index) for index, given in images}


def check_layout(image: np.ndarray, frames: np.ndarray, index: int) -> None:
    """A notice where an edited frame agrees better with another frame of the clip, or with none."""
    small = _shrunk(image)
    others = np.linspace(0, len(frames) - 1, min(len(frames), COMPARED_FRAMES)).round().astype(int).tolist()
    kept = {each: edges_kept(_shrunk(frames[each]), small) for each in {index, *others}}
    best = max(kept, key=lambda each: kept[each])
    if kept[best] > kept[index] + BETTER:
        notice(
            f"edited frame {index} has {kept[index]:.0%} of the edges of frame {index} of the clip, but "
            f"{kept[best]:.0%} of those of frame {best}; check its number"
        )
    elif kept[index] < MIN_EDGES_KEPT:
        notice(
            f"edited frame {index} has only {kept[index]:.0%} of the edges of frame {index} of the clip; check that it "
            "is an edit of that frame"
        )


def _shrunk(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, COMPARED_SIDE / max(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _scaled(image: np.ndarray, clip_size: tuple[int, int], index: int) -> np.ndarray:
    width, height = clip_size
    if abs(image.shape[1] / image.shape[0] / (width / height) - 1) > ASPECT_TOLERANCE:
        raise ConfigError(
            f"edited frame {index} is {image.shape[1]}×{image.shape[0]}, but the clip is {width}×{height}; expected "
            "that size, or the same aspect ratio. `tokenflow keyframes` writes the frames to edit"
        )
    return resize(image, width, height)


def source_frames(source: InvertedClip) -> np.ndarray:
    """The source at full size, f H W 3 uint8; with `resize="fill"`, the part that is edited."""
    if source.resize != "fill":
        return source.video.frames
    return np.stack([kept_part(frame, source) for frame in source.video.frames])


def carry_keyframes(
    source: InvertedClip,
    keyframes: Keyframes,
    *,
    folder: Path | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> CarriedClip:
    """Carry edited frames to all frames of their shots, in pixels. Shots without any stay as they are, with a notice.

    Args:
        source: the clip.
        keyframes: the edited frames.
        folder: where flow is cached; by default in a temporary file.
        on_event: called with each event.
        cancel: asked before every frame.

    Raises:
        Everything that `given_images` raises.
        Cancelled: `cancel` returned True.
    """
    frames = source_frames(source)
    given = given_images(keyframes, source.video.size, source.frame_count)
    for index, image in given.items():
        check_layout(image, source.video.frames, index)
    given = {index: kept_part(image, source) for index, image in given.items()}
    images, uncertain = frames.copy(), np.zeros(frames.shape[:3], bool)
    with progress("carry", len(frames), on_event) as advance:
        for shot in source.shots:
            raise_if_cancelled(cancel)
            own = {index - shot.start: image for index, image in given.items() if index in shot}
            if not own:
                notice(f"no edited frame is of the shot of frames {shot[0]} to {shot[-1]}, which stays as it is")
                advance(len(shot))
                continue
            _, carried = carry(frames[shot.start : shot.stop], own, folder)
            for index, frame in zip(shot, carried, strict=True):
                raise_if_cancelled(cancel)
                images[index] = frame.image
                uncertain[index] = _without_specks(frame.certain < CERTAIN)
                advance(1)
    return CarriedClip(images, uncertain)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """A mask (H W bool) without what is narrower than a few latents: that is filled from around it."""
    side = max(3, round(SPECK * max(mask.shape)))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8)) > 0


def filling_mode(source: InvertedClip, carried: CarriedClip, strength: float, batch_size: int) -> CarriedMode:
    """The mode that samples what carried frames do not show."""
    model, (width, height) = source.model, source.size
    clean, uncertain = [], []
    for indices in image_batches(len(carried.images), batch_size, source.size):
        how = "fit" if source.resize == "fill" else source.resize  # what is filled is cropped already
        working = np.stack([resize(carried.images[index], width, height, how) for index in indices])
        clean.append(model.encode(as_tensor(working)).float().cpu())
        masks = torch.from_numpy(carried.uncertain[indices]).float()[:, None]  # g 1 H W
        uncertain.append(F.adaptive_max_pool2d(masks, clean[-1].shape[-2:]))  # g 1 h w
    return CarriedMode(source, torch.cat(clean), torch.cat(uncertain), strength)


def filled(source: InvertedClip, carried: CarriedClip, sampled: Iterator[EditedFrame] | None) -> Iterator[EditedFrame]:
    """Carried frames, with what was sampled where they are uncertain.

    Args:
        source: the clip.
        carried: all its frames.
        sampled: the same frames as sampling left them; None where nothing is uncertain.
    """
    width, height = source.size
    others = repeat(None, len(carried.images)) if sampled is None else sampled
    for image, uncertain, other in zip(carried.images, carried.uncertain, others, strict=True):
        if other is not None and uncertain.any():
            share = cv2.GaussianBlur(uncertain.astype(np.float32), (0, 0), FEATHER)
            share = np.maximum(share, uncertain)[..., None]  # H W 1
            image = (share * other.image + (1 - share) * image).round().astype(np.uint8)
        yield EditedFrame(resize(image, width, height, "fit" if source.resize == "fill" else source.resize), image)


def write_keyframes(clip: Video, indices: Sequence[int], folder: Path) -> list[Path]:
    """Write frames of a clip as images to edit, frame_00012.png and so on; files that are there stay.

    Args:
        clip: the clip.
        indices: which frames, counted from 0.
        folder: created if missing.

    Returns:
        The images, in order.

    Raises:
        ConfigError: the clip has no such frame.
        OutputError: one of the images exists, or nothing can be written there.
    """
    wanted = sorted(set(indices))
    paths = {index: folder / f"frame_{index:05d}.png" for index in wanted}
    count = len(clip)
    for index, path in paths.items():
        if not 0 <= index < count:
            raise ConfigError(f"frame {index}: the clip has {count} frames; expected 0 to {count - 1}")
        if path.exists():
            raise OutputError(f"{path} exists and may have been edited; move it, or name another folder")
    with output_errors(folder, "name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(clip):
            if index in paths:
                Image.fromarray(frame.image).save(paths[index])
    return list(paths.values())
