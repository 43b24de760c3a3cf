"""The models of the page: where they are, how large, and whether this machine can hold them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from markupsafe import Markup

from tokenflow.apps.web.imports import importing

HEADROOM = 1.5
"""Memory that an edit takes, × that of the weights, at the least."""

WEIGHTS = ".safetensors"

INDEX = "model_index.json"
"""The file that makes a folder a pipeline."""


@dataclass(frozen=True)
class ModelEntry:
    """A model.

    Attributes:
        name: as the setting `model.path` takes it.
        size: bytes on disk.
    """

    name: str
    size: int

    def fits(self, memory: int) -> bool:
        """Whether so many bytes hold it beside what an edit needs."""
        return HEADROOM * self.size < memory


def list_models(names: Sequence[str]) -> list[ModelEntry]:
    """The models in folders."""
    return [ModelEntry(name, sum(path.stat().st_size for path in Path(name).rglob(f"*{WEIGHTS}"))) for name in names]


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
    """The models as a table."""
    fits = {True: "fits into memory", False: "does not fit into memory"}
    rows = [
        Markup("<tr><td>{}</td><td>{:.0f} MB</td><td>{}</td></tr>").format(
            each.name, each.size / 1e6, fits[each.fits(memory)]
        )
        for each in models
    ]
    head = Markup("<tr><th scope=col>Model</th><th scope=col>On disk</th><th scope=col>This machine</th></tr>")
    table = Markup("<table class=tf-models><thead>{}</thead><tbody>{}</tbody></table>")
    return str(table.format(head, Markup("").join(rows)))


def _is_pipeline(repository: Any) -> bool:
    return any(file.file_name == INDEX for revision in repository.revisions for file in revision.files)
