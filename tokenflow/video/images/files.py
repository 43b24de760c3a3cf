"""The files of an image sequence: which they are, in which order, and where numbers are missing."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".png", ".apng", ".avif", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""File extensions that count as images, in lower case."""


def find_images(path: Path) -> list[Path]:
    """The images in a folder, or those that match a pattern such as `frame_%04d.png` or `*.png`.

    They are sorted with numbers compared by value, so that 10 comes after 9. Hidden files and folders are left out.
    """
    if path.is_dir():
        found: Iterable[Path] = path.iterdir()
    elif counter := re.search(r"%0?\d*d", path.name):
        before, after = re.escape(path.name[: counter.start()]), re.escape(path.name[counter.end() :])
        numbered = re.compile(rf"{before}\d+{after}")
        found = (file for file in _list_folder(path.parent) if numbered.fullmatch(file.name))
    else:
        found = path.parent.glob(path.name) if re.search(r"[*?[]", path.name) else ()
    visible = (file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."))
    return sorted((file for file in visible if not file.is_dir()), key=_natural_key)


def missing_numbers(files: Sequence[Path]) -> dict[int, int]:
    """Where numbers are missing between sorted files: the index of the file before the gap, and how many are missing.

    Files count as numbered if their names differ in one number only. In a sequence of every tenth frame, say, only
    the steps that are longer than the others are gaps.
    """
    keys = [_natural_key(file) for file in files]
    if len({len(key) for key in keys}) != 1:
        return {}
    differing = [place for place in zip(*keys, strict=True) if len(set(place)) > 1]
    if len(differing) != 1 or any(number < 0 for number, _ in differing[0]):
        return {}
    steps = [after - before for (before, _), (after, _) in pairwise(differing[0])]
    step = min(steps)
    return {index: each // step - 1 for index, each in enumerate(steps) if step and each >= 2 * step}


def _list_folder(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """A sort key that compares digits by their number and other text by its characters."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
