"""Models in ComfyUI's folders, chosen by name from a list, or elsewhere by path or Hub id."""

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

ELSEWHERE = "path or Hub id"
"""The choice for models that are not in ComfyUI's folders."""

INDEX = "model_index.json"
"""The file that makes a folder a pipeline."""

WEIGHTS = ".safetensors"


def chooser(name: str, kind: str, what: str, path: str, *, folders: bool = False) -> list[io.Input]:
    """Two widgets that name a model: a list, and a text for what is not in it.

    Args:
        name: of the list.
        kind: of ComfyUI's folders, such as `checkpoints`.
        what: the model is, for the tooltips.
        path: the default of the text, whose widget is named `path`.
        folders: whether pipelines in ComfyUI's `diffusers` folders are listed, too.
    """
    names = [*model_files(kind), *(pipeline_folders() if folders else {})]
    return [
        io.Combo.Input(
            name,
            options=[ELSEWHERE, *names],
            default=ELSEWHERE,
            tooltip=f"{what} in ComfyUI's folders, or by its path below.",
        ),
        io.String.Input(
            "path",
            default=path,
            tooltip=f"{what}: a folder in diffusers' layout, a .safetensors file, or a Hub id. Used if nothing is "
            "chosen above.",
        ),
    ]


def chosen_path(choice: str, kind: str, path: str = "") -> str:
    """What the two widgets name, as the library takes it.

    Raises:
        ValueError: they name nothing.
    """
    if choice == ELSEWHERE:
        if not path.strip():
            raise ValueError("no model is named; choose one from the list, or write its path or Hub id")
        return path.strip()
    return pipeline_folders().get(choice) or folder_paths.get_full_path_or_raise(kind, choice)


def model_files(kind: str) -> list[str]:
    """The names of `.safetensors` files in ComfyUI's folders of a kind."""
    return [name for name in folder_paths.get_filename_list(kind) if name.lower().endswith(WEIGHTS)]


def pipeline_folders() -> dict[str, str]:
    """Pipelines in diffusers' layout in ComfyUI's folders: name -> path."""
    found = {}
    for root in folder_paths.get_folder_paths("diffusers"):
        for folder, subfolders, files in os.walk(root, followlinks=True):
            if INDEX in files:
                found[Path(folder).relative_to(root).as_posix()] = folder
                subfolders.clear()
    return found


def weights_size(path: str) -> int:
    """Bytes of the weights of a local model; 0 for a Hub id."""
    root = Path(path)
    files = [root] if root.is_file() else root.rglob(f"*{WEIGHTS}")
    return sum(file.stat().st_size for file in files)


def inversions_folder(*, for_good: bool) -> Path:
    """Where inversions are stored: among ComfyUI's temporary files, or among the user's."""
    root = folder_paths.get_user_directory() if for_good else folder_paths.get_temp_directory()
    return Path(root) / "tokenflow" / "inversions"
