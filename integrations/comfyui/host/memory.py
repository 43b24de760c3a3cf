"""How much memory models will take on the device, from the sizes of their files, for which ComfyUI is asked."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from comfy import model_management
from huggingface_hub import try_to_load_from_cache

from .folders import CONFIG, INDEX, WEIGHTS

NETWORKS = "unet", "transformer", "vae", "text_encoder"
"""How the folders of a pipeline's networks begin; others, such as a safety checker, are not loaded."""

SHARD = re.compile(r"-\d{5}-of-\d{5}")
"""In the names of files that are parts of one."""


def room_for(paths: Iterable[str], *, offload: bool = False) -> int:
    """Bytes that models take at most; the whole device's where one is still to be downloaded.

    Args:
        paths: folders, files and Hub ids of a model and of what is loaded into it.
        offload: whether only the largest of their networks is on the device at a time.
    """
    sizes = [size for path in paths for size in network_sizes(path)]
    return max(sizes, default=0) if offload else sum(sizes)


def network_sizes(path: str) -> list[int]:
    """Bytes of the files of each network of a model, in the largest of its variants."""
    root = local_path(path)
    if root is None:
        return [model_management.get_total_memory(model_management.get_torch_device())]
    if root.is_file():
        return [root.stat().st_size]
    is_pipeline = (root / INDEX).is_file()
    folders = [each for each in root.glob("*") if each.name.startswith(NETWORKS)] if is_pipeline else [root]
    return [_largest_variant(folder) for folder in folders]


def local_path(path: str) -> Path | None:
    """Where a model is, for a Hub id in the local cache; None if it is still to be downloaded."""
    from tokenflow.models.checkpoints.hub import is_hub_id  # takes seconds to import
    from tokenflow.models.presets import full_name

    path = full_name(path)
    if not is_hub_id(path):
        return Path(path)
    cached = (try_to_load_from_cache(path, name) for name in (INDEX, CONFIG))
    return next((Path(file).parent for file in cached if isinstance(file, str)), None)


def _largest_variant(folder: Path) -> int:
    """Bytes of the files of one network, which may lie there in several precisions, each whole or in parts."""
    sizes: dict[str, int] = defaultdict(int)
    for file in folder.glob(f"*{WEIGHTS}"):
        sizes[SHARD.sub("", file.name)] += file.stat().st_size
    return max(sizes.values(), default=0)
