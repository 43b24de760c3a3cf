"""The models of the page: where they are, how large, and whether this machine can hold them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from markupsafe import Markup

from tokenflow.apps.web.imports import importing
from tokenflow.models.presets import PRESETS

HEADROOM = 1.5
"""Memory that an edit takes, × that of the weights, at the least."""

WEIGHTS = ".safetensors"

FITS, FITS_WITH_CARE, FITS_NOT = "fits into memory", "fits if memory is saved", "does not fit into memory"

INDEX = "model_index.json"
"""The file that makes a folder a pipeline."""


@dataclass(frozen=True)
class ModelEntry:
    """A model.

    Attributes:
        name: as the setting `model.path` takes it.
        size: bytes on disk; None if it is not on this machine.
    """

    name: str
    size: int | None


def list_models(names: Sequence[str]) -> list[ModelEntry]:
    """The models of these names, which are folders, or kept elsewhere."""
    return [ModelEntry(name, _size(Path(name)) if Path(name).is_dir() else None) for name in names]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob(f"*{WEIGHTS}"))


def downloaded_models() -> list[ModelEntry]:
    """The pipelines in the cache of the Hub."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = [ModelEntry(each.repo_id, each.size_on_disk) for each in repositories if _is_pipeline(each)]
    return sorted(found, key=lambda entry: entry.name)


def device_memory() -> int:
    """Bytes of the GPU that edits run on, or of main memory."""
    with importing():
        import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[1])
    return int(psutil.virtual_memory().total)


def models_html(models: Sequence[ModelEntry], memory: int) -> str:
    """The models as a table; of those that are not on this machine, the names."""
    here = any(each.size is not None for each in models)
    head = ("Model", "On disk", "This machine") if here else ("Model",)
    rows = [(each.name, *(_on_disk(each.size, memory) if here else ())) for each in models]
    return _table(head, rows)


def _on_disk(size: int | None, memory: int) -> tuple[str, str]:
    if size is None:
        return "", ""
    return f"{size / 1e6:.0f} MB", FITS if HEADROOM * size < memory else FITS_NOT


def published_html(memory: int) -> str:
    """Published models by short name as a table: what each needs, and whether this machine has it."""
    head = ("Name", "This machine", "Memory", "At least", "Frames", "Licence")
    rows = [
        (
            each.name,
            FITS if each.memory() < memory else FITS_WITH_CARE if each.least_memory() < memory else FITS_NOT,
            f"{each.memory() / 1e9:.0f} GB",
            f"{each.least_memory() / 1e9:.0f} GB",
            f"{each.network.side}×{each.network.side}",
            each.licence,
        )
        for each in PRESETS
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = Markup("").join(Markup("<th scope=col>{}</th>").format(each) for each in head)
    lines = [Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row) for row in rows]
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in lines)
    table = Markup(
        "<div class=tf-wide><table class=tf-models><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    )
    return str(table.format(titles, body))


def _is_pipeline(repository: Any) -> bool:
    return any(file.file_name == INDEX for revision in repository.revisions for file in revision.files)
