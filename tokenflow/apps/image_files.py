"""The PNG files that `tokenflow generate` writes."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tokenflow.errors import OutputError

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".png"


def image_files(output: Path, count: int) -> list[Path]:
    """The file of one image, or the numbered files of several; nothing is written yet.

    Raises:
        OutputError: the name does not end in .png, or is that of a folder, or nothing can be written there.
    """
    if output.suffix.lower() != SUFFIX:
        raise OutputError(f"expected a file name that ends in {SUFFIX} for --output, got {str(output)!r}")
    digits = len(str(count - 1))
    names = (
        [f"{output.stem}_{index:0{digits}}{output.suffix}" for index in range(count)] if count > 1 else [output.name]
    )
    files = [output.with_name(name) for name in names]
    with _output_errors(output.parent):
        existing = next(folder for folder in output.parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        reason = "is not writable" if existing.is_dir() else "is not a folder"
        raise OutputError(f"cannot write to {output.parent} ({existing} {reason}); choose another --output")
    for file in files:
        if file.is_dir():
            raise OutputError(f"cannot write to {file} (it is a folder); choose another --output")
    return files


def write_images(files: Iterable[Path], images: "Iterable[np.ndarray]") -> None:
    """Write images, H W 3 uint8, over whatever the files held; their folder is created.

    Raises:
        OutputError: one cannot be written.
    """
    from PIL import Image

    for file, image in zip(files, images, strict=True):
        with _output_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write to {path} ({error.strerror or error}); choose another --output") from error
