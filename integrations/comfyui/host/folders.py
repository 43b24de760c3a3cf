"""ComfyUI's folders: the models in them by name, and where inversions are stored."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import folder_paths

WEIGHTS = ".safetensors"

INDEX, CONFIG = "model_index.json", "config.json"
"""The files that make a folder a pipeline, or one of its networks, in diffusers' layout."""


def model_files(kind: str) -> list[str]:
    """The names of `.safetensors` files in ComfyUI's folders of a kind."""
    return [name for name in folder_paths.get_filename_list(kind) if name.lower().endswith(WEIGHTS)]


def model_folders(kind: str, marker: str) -> dict[str, str]:
    """Models in diffusers' layout in ComfyUI's folders of a kind: name -> path.

    Args:
        kind: of ComfyUI's folders, such as `diffusers`.
        marker: the file that such a folder has.
    """
    roots = folder_paths.get_folder_paths(kind)
    return {path.relative_to(root).as_posix(): str(path) for root in roots for path in _below(Path(root), marker)}


def _below(root: Path, marker: str) -> Iterator[Path]:
    """The folders below a folder that have a file of this name; the others are looked into, each once."""
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder above it
            subfolders.clear()
            continue
        visited.add(real)
        if marker in files and Path(folder) != root:
            yield Path(folder)
            subfolders.clear()


def found_file(name: str, kinds: Sequence[str]) -> str | None:
    """The path of a file of this name in ComfyUI's folders of these kinds; None if there is none."""
    paths = (folder_paths.get_full_path(kind, name) for kind in kinds)
    return next((path for path in paths if path is not None), None)


def inversions_folder(*, for_good: bool) -> Path:
    """Where inversions are stored: among ComfyUI's temporary files, or among the user's."""
    root = folder_paths.get_user_directory() if for_good else folder_paths.get_temp_directory()
    return Path(root) / "tokenflow" / "inversions"
