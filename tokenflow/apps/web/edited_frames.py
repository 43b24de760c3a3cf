"""Frames that are edited elsewhere: taken out of a clip, and uploaded again."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tokenflow.apps.frame_numbers import frame_numbers
from tokenflow.apps.uploads import check_upload
from tokenflow.apps.web.clips import DIGITS, small
from tokenflow.apps.web.form import EDITED_FRAMES, REFERENCES
from tokenflow.apps.web.imports import importing
from tokenflow.apps.web.quirks import shown_file
from tokenflow.apps.web.space import Space
from tokenflow.errors import ConfigError
from tokenflow.store.files import sha256

if TYPE_CHECKING:
    from tokenflow.config import Clip, Edit

MAX_IMAGES = 100
"""Of one upload."""


def take_out(clip: "Clip", numbers: str) -> list[str]:
    """Frames of a clip as PNG files that the page can serve.

    Args:
        clip: and which part of it.
        numbers: as they were typed, counted from 0; empty for the first and the last frame.

    Raises:
        ConfigError: expected frame numbers, or the clip does not have such frames.
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    with importing():
        from tokenflow.pipeline.clip import open_clip
        from tokenflow.pipeline.keyframes import write_keyframes

    video = open_clip(clip)
    indices = frame_numbers(numbers) if numbers.strip() else [0, len(video) - 1]
    with TemporaryDirectory() as folder:
        return [shown_file(path) for path in write_keyframes(video, indices, Path(folder))]


def keep_images(uploads: Sequence[Path], space: Space) -> Path:
    """Check uploaded images and keep them in a folder of the space, as the setting takes it.

    Raises:
        ConfigError: there are too many, or a name does not say which frame it is.
        ClipError: one cannot be read, or is more than the limits allow.
    """
    with importing():
        from tokenflow.pipeline.keyframes import numbered_images

    return _keep(EDITED_FRAMES, uploads, space, numbered_images)


def keep_references(uploads: Sequence[Path], space: Space) -> list[Path]:
    """Check uploaded references and keep them in a folder of the space, in the order of their names.

    Raises:
        ConfigError: there are too many.
        ClipError: one cannot be read, or is more than the limits allow.
    """
    return sorted(_keep(REFERENCES, uploads, space, lambda folder: None).iterdir())


def _keep(key: str, uploads: Sequence[Path], space: Space, check: Callable[[Path], object]) -> Path:
    """The folder with the images, once its content passed the check."""
    if len(uploads) > MAX_IMAGES:
        raise ConfigError(f"{key}: {len(uploads)} images are more than {MAX_IMAGES}; upload fewer")
    for upload in uploads:
        check_upload(upload, space.limits)
    space.edited_frames.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=space.edited_frames, ignore_cleanup_errors=True) as temporary:
        for upload in uploads:
            shutil.copyfile(upload, _unused(Path(temporary) / upload.name, key))
        check(Path(temporary))
        kept = space.edited_frames / _digest(Path(temporary))
        if not kept.exists():
            Path(temporary).rename(kept)
    return kept


def thumbnails(edit: "Edit") -> list[tuple[Any, str]]:
    """The edited frames of an edit as small images (PIL), each with what it is called.

    Raises:
        Everything that `keyframes_of` raises.
    """
    with importing():
        from PIL import Image

        from tokenflow.pipeline.keyframes import keyframes_of

    keyframes = keyframes_of(edit)
    images = {} if keyframes is None else keyframes.images
    return [(small(Image.open(path).convert("RGB")), f"Frame {index}") for index, path in sorted(images.items())]


def _unused(path: Path, key: str) -> Path:
    if path.exists():
        raise ConfigError(f"{key}: two images are called {path.name}; upload one of them")
    return path


def _digest(folder: Path) -> str:
    """Of the names and the content of the files in a folder."""
    parts = [f"{path.name} {sha256(path)}" for path in sorted(folder.iterdir())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGITS]
