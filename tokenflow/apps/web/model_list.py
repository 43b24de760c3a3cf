"""The models of the page: where they are, how large, and whether this machine can hold them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from markupsafe import Markup

HEADROOM = 1.5
"""Memory that an edit takes, × that of the weights, at the least."""

WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class ModelEntry:
    """A model.

    Attributes:
        name: as the setting `model.path` takes it.
        weights: bytes on disk; None for one of the Hub that was not downloaded.
        fits: whether it can be held beside what an edit needs; None if that is unknown.
    """

    name: str
    weights: int | None
    fits: bool | None


def list_models(names: Sequence[str]) -> Iterator[ModelEntry]:
    """The models of these names."""
    memory = device_memory()
    for name in names:
        weights = sum(path.stat().st_size for path in Path(name).rglob(f"*{WEIGHTS}")) or None
        yield ModelEntry(name, weights, None if weights is None else HEADROOM * weights < memory)


def device_memory() -> int:
    """Bytes of the GPU that edits run on, or of main memory."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[1])
    return int(psutil.virtual_memory().total)


def models_html(names: Sequence[str]) -> str:
    """The models as a table."""
    rows = [
        Markup("<tr><td>{}</td><td>{}</td><td>{}</td></tr>").format(
            each.name,
            "on the Hub, downloaded when it is first used" if each.weights is None else f"{each.weights / 1e6:.0f} MB",
            {None: "unknown", True: "fits into memory", False: "does not fit into memory"}[each.fits],
        )
        for each in list_models(names)
    ]
    head = Markup("<tr><th scope=col>Model</th><th scope=col>Weights</th><th scope=col>This machine</th></tr>")
    return str(
        Markup("<table class=tf-models><thead>{}</thead><tbody>{}</tbody></table>").format(head, Markup("").join(rows))
    )
