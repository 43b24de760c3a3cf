"""Fingerprints of models: what tells one model's inversions from another's."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from tokenflow.models.quantization import stored_tensors
from tokenflow.store.files import sha256

DIGITS = 16
SUFFIXES = (".gguf", ".json", ".safetensors", ".txt")
"""Files of a model that its fingerprint depends on."""


def path_fingerprint(path: str, revision: str | None = None, **settings: str) -> str:
    """Sixteen hex digits that change with the files of a model, its revision on the Hub, or the settings.

    Every file of a local model is hashed whole, also those behind symbolic links. A Hub id is hashed by its name and
    the commit that was downloaded.
    """
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    root = Path(path)
    for file in _files(root):
        if file.suffix.lower() in SUFFIXES:
            digest.update(str(file.relative_to(root)).encode())
            stat = file.stat()
            digest.update(bytes.fromhex(_cached_checksum(file.absolute(), stat.st_size, stat.st_mtime_ns)))
    if not root.exists():
        digest.update(f"{path}@{revision}".encode())
    return digest.hexdigest()[:DIGITS]


def weights_fingerprint(networks: Iterable[nn.Module]) -> str:
    """Sixteen hex digits that change with the weights of networks in memory, or their precision."""
    digest = hashlib.sha256()
    for network in networks:
        for name, weight in network.state_dict().items():
            for part in stored_tensors(weight):
                digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
                digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:DIGITS]


def _files(root: Path) -> Iterator[Path]:
    """The files below a folder in a fixed order, through symbolic links; or the file itself."""
    if root.is_file():
        yield root
    visited: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder above it
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if Path(folder, name).is_file())


@lru_cache(maxsize=4096)
def _cached_checksum(file: Path, _size: int, _changed: int) -> str:
    """A file's checksum, computed once while size and modification time stay the same: gigabytes take seconds."""
    return sha256(file)
