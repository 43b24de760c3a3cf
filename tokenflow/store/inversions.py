"""An inversion on disk: the clip's frames at the working size, and its latents at every noise level.

A folder holds `manifest.json` (format, what it was made from, frame times, levels, a checksum of every finished part),
`frames.rgb` (raw frames), one safetensors file per level, named after it, and the report and videos of the
reconstruction check. Everything is written under a temporary name and renamed; a part counts once the manifest lists
it. Reading some frames of a level reads no others. Beside them is what edits found about the frames and leave for later
ones, such as optical flow (`kept_pairs`). No pickle.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from tokenflow.diffusion.latents import Frames, Scratch
from tokenflow.diffusion.levels import Level
from tokenflow.errors import TrajectoryError, WaitingWarning
from tokenflow.events import Cancel, notice
from tokenflow.store.arrays import ArrayFile, on_disk
from tokenflow.store.files import locked, output_errors, sha256, write_atomically, write_json
from tokenflow.store.kept_pairs import SUFFIX, KeptPairs
from tokenflow.store.memory import in_order

FORMAT = 5
MANIFEST = "manifest.json"
FRAMES = "frames.rgb"
REPORT = "report.json"

DTYPES = {torch.float32: "F32", torch.float16: "F16"}
"""Of stored latents, by their names in safetensors."""

REMEDY = "free some space, or set trajectories.dir to a writable folder"

_UNFINISHED = r"\.(.+\.(safetensors|rgb|json)\.\d+|reconstruction\.(mp4|mkv)\.[0-9a-f]{8}\.part)"
"""Names of files while they are written: our own, and those of the video writer."""


@dataclass
class _Manifest:
    made_from: dict[str, Any]
    format: int = FORMAT
    frame_shape: list[int] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    end: str = ""
    levels: list[tuple[float, float, float]] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    cuts: list[int] | None = None


class StoredInversion:
    """The inversion of one clip with one model on disk, being made or complete (see `Inversion`).

    Args:
        folder: where it is.
        made_from: what it depends on (clip, model, settings), as JSON values. One made from anything else is refused.

    Raises:
        TrajectoryError: the folder holds an inversion of something else, of another format, or one that is damaged.
    """

    def __init__(self, folder: Path, made_from: dict[str, Any]) -> None:
        self.folder = folder
        self._verified: set[str] = set()
        self._manifest = self._load(made_from)

    @property
    def complete(self) -> bool:
        """Whether every level is there."""
        return self._manifest.complete

    @property
    def made_from(self) -> dict[str, Any]:
        """What it depends on: clip, model and settings."""
        return self._manifest.made_from

    @property
    def digest(self) -> str:
        """SHA-256 of what it was made from, its frames and its levels; that of the reconstruction check is left out."""
        parts = {name: checksum for name, checksum in self._manifest.parts.items() if name != REPORT}
        return _checksum_of({"made_from": self._manifest.made_from, "parts": parts})

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Seconds at which each frame is shown, on the clock of the clip."""
        return tuple(Fraction(time) for time in self._manifest.times)

    @property
    def end(self) -> Fraction:
        """Seconds at which the last frame ends, on the clock of the clip."""
        return Fraction(self._manifest.end)

    @property
    def has_frames(self) -> bool:
        """Whether the frames are there."""
        return FRAMES in self._manifest.parts

    @property
    def levels(self) -> Sequence[Level]:
        """The levels that are there, cleanest first."""
        return in_order(Level(*level) for level in self._manifest.levels)

    @property
    def cuts(self) -> tuple[int, ...] | None:
        """The cuts that were found in the frames; None if none were looked for."""
        return None if self._manifest.cuts is None else tuple(self._manifest.cuts)

    @property
    def scratch(self) -> Scratch:
        """Allocates latents in files without a name in the folder."""
        return on_disk(self.folder)

    def frames(self) -> Frames:
        """The frames at the working size, f H W 3 uint8, read when asked for."""
        self._verify(FRAMES)
        shape = len(self._manifest.times), *self._manifest.frame_shape
        return ArrayFile((self.folder / FRAMES).open("rb"), shape, np.uint8)

    def kept_pairs(self, name: str, made_from: Mapping[str, Any]) -> KeptPairs:
        """What edits of this inversion left about pairs of its frames, and may add to.

        Args:
            name: of what is kept.
            made_from: what it depends on beside the frames, as JSON values.
        """
        depends_on = {"frames": self._manifest.parts[FRAMES], **made_from}
        # Not the lock of the inversion: who makes that would seem to be at work while flow is written.
        lock = partial(locked, self.folder, lambda: None, REMEDY, name=f".{name}.lock")
        return KeptPairs(self.folder / f"{name}{SUFFIX}", depends_on, lock, REMEDY)

    @property
    def kept_bytes(self) -> int:
        """Of all that `kept_pairs` keeps."""
        return sum(path.stat().st_size for path in self.folder.glob(f"*{SUFFIX}"))

    def latents(self, level: Level, indices: Sequence[int] | None = None) -> Tensor:
        """Latents f c h w float32 at a level, of all frames or of those listed.

        Raises:
            TrajectoryError: they are missing or damaged.
        """
        name = _part(level)
        if name not in self._manifest.parts:
            known = ", ".join(sorted(self._manifest.parts))
            raise TrajectoryError(
                f"{self.folder} has no latents at level {level.name}; it has {known}; {self._remedy()}"
            )
        self._verify(name)
        with safe_open(self.folder / name, framework="pt") as file:
            if indices is None:
                # A copy is aligned in memory, without which results differ in their last bits.
                return file.get_tensor("latents").to(torch.float32, copy=True)
            stored = file.get_slice("latents")
            return torch.cat([stored[index : index + 1] for index in indices]).float()

    def write_frames(self, frames: Iterable[tuple[np.ndarray, Fraction, Fraction]]) -> None:
        """Store the frames: H W 3 uint8, the time of each and its duration in seconds."""
        times: list[str] = []
        end = Fraction(0)
        shape: list[int] = []
        with self._writing(FRAMES) as file:
            for image, time, duration in frames:
                times.append(str(time))
                end = time + duration
                shape = list(image.shape)
                file.write(np.ascontiguousarray(image).data)
        self._manifest.times, self._manifest.end, self._manifest.frame_shape = times, str(end), shape
        self._add(FRAMES)

    def write_cuts(self, cuts: Sequence[int]) -> None:
        """Store the cuts that were found in the frames."""
        self._manifest.cuts = list(cuts)
        self._save()

    def write_latents(self, level: Level, groups: Iterable[Tensor]) -> None:
        """Store the latents of all frames at a level, group by group (g c h w, float32 or float16); then they outlive a
        crash.

        The file is in safetensors' format, whose own writer would need all of it in memory.
        """
        name = _part(level)
        with self._writing(name) as file:
            for group in groups:
                if file.is_empty:
                    file.write(_header((len(self._manifest.times), *group.shape[1:]), group.dtype))
                file.write(group.detach().cpu().contiguous().numpy().data)
        self._manifest.levels.append(astuple(level))
        self._add(name)

    def finish(self) -> None:
        """Mark the inversion complete."""
        self._manifest.complete = True
        self._save()

    def write_report(self, report: dict[str, Any]) -> None:
        """Store the report of the reconstruction check, as JSON values."""
        write_json(self.folder / REPORT, report, REMEDY)
        self._add(REPORT)

    def report(self) -> dict[str, Any] | None:
        """The report of the reconstruction check; None if it was not made.

        Raises:
            TrajectoryError: it is missing or damaged.
        """
        if REPORT not in self._manifest.parts:
            return None
        self._verify(REPORT)
        return json.loads((self.folder / REPORT).read_text(encoding="utf-8"))

    @contextmanager
    def locked(self, cancel: Cancel | None = None) -> Iterator[None]:
        """Hold the folder for writing; a second process waits, with a notice, until the first has finished or died.

        The manifest is read again once the lock is held, since the first process may have finished the work, and what a
        killed process had not finished writing is removed.

        Args:
            cancel: asked while waiting.

        Raises:
            OutputError: nothing can be written there.
            Cancelled: `cancel` returned True.
        """
        with locked(self.folder, self._notice_waiting, REMEDY, cancel=cancel):
            with output_errors(self.folder, REMEDY):
                for unfinished in filter(_is_unfinished, self.folder.iterdir()):
                    unfinished.unlink()
            self._manifest = self._load(self._manifest.made_from)
            yield

    def _notice_waiting(self) -> None:
        notice(f"another run is making {self.folder}; waiting for it to finish", WaitingWarning)

    def _load(self, made_from: dict[str, Any]) -> _Manifest:
        path = self.folder / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            version, vouched = content["format"], content.pop("checksum", None)
        except (FileNotFoundError, NotADirectoryError):
            return _Manifest(made_from)
        except OSError as error:
            raise TrajectoryError(
                f"{path} cannot be read ({error.strerror or error}); set another trajectories.dir"
            ) from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise TrajectoryError(f"{path} is damaged ({error}); {self._remedy()}") from error
        if version != FORMAT:
            raise TrajectoryError(
                f"{path} is of format {version}, but this version reads format {FORMAT}; {self._remedy()}"
            )
        if vouched != _checksum_of(content):
            raise TrajectoryError(f"{path} is damaged: its content has changed since it was written; {self._remedy()}")
        manifest = _Manifest(**content)
        for key, value in made_from.items():
            if manifest.made_from.get(key) != value:
                raise TrajectoryError(
                    f"{self.folder} was made from another {key} ({manifest.made_from.get(key)!r}, not {value!r}); "
                    f"{self._remedy()}, or set another trajectories.dir"
                )
        return manifest

    def _add(self, name: str) -> None:
        self._manifest.parts[name] = sha256(self.folder / name)
        self._verified.add(name)
        self._save()

    def _save(self) -> None:
        content = asdict(self._manifest)
        write_json(self.folder / MANIFEST, {**content, "checksum": _checksum_of(content)}, REMEDY)

    @contextmanager
    def _writing(self, name: str) -> "Iterator[_Writer]":
        """A part to write to, which is there once the block has ended."""
        with write_atomically(self.folder / name, REMEDY) as temporary:
            with output_errors(self.folder, REMEDY):
                file = temporary.open("wb")
            try:
                yield _Writer(file, self.folder)
                with output_errors(self.folder, REMEDY):
                    file.flush()
            finally:
                with suppress(OSError):  # of a full disk, which the flush has reported
                    file.close()

    def _verify(self, name: str) -> None:
        """Compare a part with its checksum the first time it is read."""
        if name in self._verified:
            return
        path = self.folder / name
        try:
            sound = sha256(path) == self._manifest.parts.get(name)
        except OSError as error:
            raise TrajectoryError(f"{path} cannot be read ({error}); {self._remedy()}") from error
        if not sound:
            raise TrajectoryError(f"{path} is damaged: its content has changed since it was written; {self._remedy()}")
        self._verified.add(name)

    def check_parts(self) -> None:
        """Check that the file of every part exists; contents are compared with their checksums when they are read.

        Raises:
            TrajectoryError: one is missing.
        """
        for name in self._manifest.parts:
            if not (self.folder / name).is_file():
                raise TrajectoryError(f"{self.folder / name} is missing; {self._remedy()}")

    def _remedy(self) -> str:
        return f"delete the folder {self.folder} and run again"


def finished_inversions(store: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder of each complete inversion in a store, and what it was made from; skips what cannot be read."""
    for path in sorted(store.glob(f"*/{MANIFEST}")):
        with suppress(OSError, ValueError, TypeError, LookupError):
            content = json.loads(path.read_bytes())
            if content["format"] == FORMAT and content["complete"]:
                yield path.parent, dict(content["made_from"])


class _Writer:
    """Writes to an open file; only its own failures become an `OutputError`, not those of what produces the data."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file
        self._folder = folder

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return self._file.tell() == 0

    def write(self, data: bytes | memoryview) -> None:
        """Append some bytes."""
        with output_errors(self._folder, REMEDY):
            self._file.write(data)


def _is_unfinished(path: Path) -> bool:
    """Whether this is one of our temporary files."""
    return path.is_file() and re.fullmatch(_UNFINISHED, path.name) is not None


def _part(level: Level) -> str:
    return f"{level.name}.safetensors"


def _checksum_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _header(shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    """The header of a safetensors file of latents f c h w."""
    size = dtype.itemsize * math.prod(shape)
    text = json.dumps({"latents": {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [0, size]}})
    text += " " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text.encode()
