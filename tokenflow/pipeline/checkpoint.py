"""The latents of an unfinished edit on disk, from which the same edit continues after its last finished step.

One file holds a line of JSON and the latents, float32. The line has a digest of everything they depend on, so those of
another edit are never used, and a checksum of the latents.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenflow import report
from tokenflow.config import Edit
from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents, Scratch, WritableLatents
from tokenflow.models.identity import path_fingerprint
from tokenflow.models.loading import control_fingerprint
from tokenflow.models.model import Model
from tokenflow.store.files import output_errors, sha256, write_atomically
from tokenflow.store.inversions import StoredInversion
from tokenflow.store.results import REMEDY
from tokenflow.video import clip_files

NAME = ".tokenflow-checkpoint"
"""The file's name in `output.dir`, where it outlives the folder of unfinished results."""

FORMAT = 1
MAX_HEADER = 4096
"""Bytes of the line of JSON."""

GROUP = 16
"""Frames in memory at a time."""


@dataclass(frozen=True)
class Checkpoint:
    """Keeps the latents of one edit after each step.

    Attributes:
        folder: where the file is.
        scratch: a folder on the same disk, in which it is written before it replaces the one of the step before.
        digest: of everything the latents depend on.
    """

    folder: Path
    scratch: Path
    digest: str

    def save(self, done: int, latents: Latents) -> None:
        """Keep the latents (f c h w) after so many steps; then they outlive a crash.

        Raises:
            OutputError: they cannot be written.
        """
        shape = [len(latents), *latents[[0]].shape[1:]]
        header = {"format": FORMAT, "digest": self.digest, "done": done, "shape": shape, "sha256": _sha256(latents)}
        written = self.scratch / NAME
        with (
            write_atomically(written, REMEDY) as temporary,
            output_errors(self.folder, REMEDY),
            temporary.open("wb") as file,
        ):
            file.write(json.dumps(header).encode() + b"\n")
            for group in _groups(len(latents)):
                file.write(_rows(latents, group).data)
        with output_errors(self.folder, REMEDY):
            written.replace(self.folder / NAME)

    def load(self, allocate: Scratch) -> tuple[int, WritableLatents] | None:
        """The number of finished steps and the latents after them; None if this edit has left none.

        Args:
            allocate: allocates the latents.
        """
        try:
            file = (self.folder / NAME).open("rb")
        except OSError:
            return None
        with file:
            header = self._header(file)
            if header is None:
                return None
            latents = allocate(header["shape"])
            count, *shape = header["shape"]
            for group in _groups(count):
                data = file.read(4 * len(group) * int(np.prod(shape)))
                latents[group] = torch.from_numpy(np.frombuffer(data, np.float32).copy().reshape(-1, *shape))
        return header["done"], latents

    def clear(self) -> None:
        """Remove the file, once the edit is finished."""
        with output_errors(self.folder, REMEDY):
            (self.folder / NAME).unlink(missing_ok=True)

    def _header(self, file: BufferedReader) -> dict[str, Any] | None:
        """The line of JSON, with the file at the latents; None if they are damaged or another edit's."""
        with suppress(ValueError, TypeError, LookupError):
            header = json.loads(file.readline(MAX_HEADER))
            start = file.tell()
            if (header["format"], header["digest"]) == (FORMAT, self.digest):
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(start)
                return header if checksum == header["sha256"] else None
        return None


def digest_of(edit: Edit, inversion: StoredInversion, cuts: Sequence[int], model: Model) -> str:
    """SHA-256 of everything that the latents of an edit depend on, down to their last bits."""
    controls = edit.controlnet.units if edit.mode == "controlnet" else ()
    made_from = {
        "edit": edit.model_dump(mode="json"),
        "control": [control_fingerprint(unit.path) for unit in controls],
        "ip_adapter": None if edit.ip_adapter is None else path_fingerprint(edit.ip_adapter),
        "images": [sha256(file) for path in edit.paths for file in clip_files(path)],
        "inversion": inversion.digest,
        "cuts": list(cuts),
        "model": model.fingerprint,
        "device": str(model.device),
        "versions": report.versions(),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _sha256(latents: Latents) -> str:
    digest = hashlib.sha256()
    for group in _groups(len(latents)):
        digest.update(_rows(latents, group).data)
    return digest.hexdigest()


def _groups(count: int) -> list[list[int]]:
    return list(batches(range(count), GROUP))


def _rows(latents: Latents, indices: list[int]) -> np.ndarray:
    """Some frames' latents, g c h w float32."""
    return np.ascontiguousarray(latents[indices].float().cpu().numpy())
