"""A trajectory on disk: the source's frames, and its latents at every noise level. Knows files; knows no network.

A folder holds `manifest.json` (format, what it was made from, frame times, a checksum for every finished part),
`frames.rgb` (the frames at the model's size, raw), one safetensors file a time step, and stage 1's `report.json` about
the reconstruction. Everything is written to a temporary name and renamed, so that what has its name is whole; a part
counts once the manifest lists it. Parts are memory-mapped: reading some frames of a step reads no others. No pickle.
"""

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tokenflow.diffusion.latents import Frames
from tokenflow.diffusion.schedules import CLEAN
from tokenflow.errors import OutputError, TokenflowError, TrajectoryError, WaitingWarning
from tokenflow.store.arrays import ArrayFile
from tokenflow.store.files import locked, output_errors
from tokenflow.store.files import sha256 as checksum

FORMAT = 3
MANIFEST = "manifest.json"
FRAMES = "frames.rgb"
CLEAN_PART = "clean.safetensors"
REPORT = "report.json"

_UNFINISHED = r"\.(.+\.(safetensors|rgb|json)\.\d+|reconstruction\.(mp4|mkv)\.[0-9a-f]{8}\.part)"
"""The names of files while they are written: our own by `_atomic`, the video by its writer."""


@dataclass
class _Manifest:
    made_from: dict[str, Any]
    format: int = FORMAT
    frame_shape: list[int] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    end: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    complete: bool = False


class StoredInversion:
    """The inversion of one clip with one model, being made or finished.

    Args:
        folder: where it is kept.
        made_from: what it depends on (clip, model, settings), as JSON values. One made from anything else is refused.

    Raises:
        TrajectoryError: the folder holds a trajectory of something else, of another format, or one that is damaged.
    """

    def __init__(self, folder: Path, made_from: dict[str, Any]) -> None:
        self.folder = folder
        self._verified: set[str] = set()
        self._manifest = self._load(made_from)

    @property
    def complete(self) -> bool:
        """Whether every step and the reconstruction check are there."""
        return self._manifest.complete

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Seconds from the start of the clip, a frame each."""
        return tuple(Fraction(time) for time in self._manifest.times)

    @property
    def end(self) -> Fraction:
        """Seconds from the start of the clip at which the last frame goes."""
        return Fraction(self._manifest.end)

    @property
    def frame_count(self) -> int:
        """How many frames the clip has."""
        return len(self._manifest.times)

    @property
    def has_frames(self) -> bool:
        """Whether the source's frames are there."""
        return FRAMES in self._manifest.parts

    def frames(self) -> Frames:
        """The source's frames at the model's size, f H W 3 uint8, read when asked for."""
        self._verify(FRAMES)
        return ArrayFile((self.folder / FRAMES).open("rb"), (self.frame_count, *self._manifest.frame_shape), np.uint8)

    def has(self, timestep: int) -> bool:
        """Whether the latents of a time step are there."""
        return _part(timestep) in self._manifest.parts

    @property
    def timesteps(self) -> list[int]:
        """The levels whose latents are there, `CLEAN` first, then from the least noisy on."""
        noisy = [int(name[1:5]) for name in self._manifest.parts if re.fullmatch(r"t\d{4}\.safetensors", name)]
        return [CLEAN] * self.has(CLEAN) + sorted(noisy)

    def latents(self, timestep: int, frames: Sequence[int] | None = None) -> Tensor:
        """The source's latents at a time step (or `CLEAN`): f c h w float32, of all frames or of those listed.

        Raises:
            TrajectoryError: they are missing or damaged.
        """
        name = _part(timestep)
        if name not in self._manifest.parts:
            known = ", ".join(sorted(self._manifest.parts))
            raise TrajectoryError(
                f"{self.folder} has no latents of time step {timestep}; it has {known}; {self._remedy()}"
            )
        self._verify(name)
        with safe_open(self.folder / name, framework="pt") as file:
            if frames is None:
                return file.get_tensor("latents").clone()  # aligned in memory, or results differ in their last bits
            stored = file.get_slice("latents")
            return torch.cat([stored[frame : frame + 1] for frame in frames])

    def write_frames(self, frames: Iterable[tuple[np.ndarray, Fraction, Fraction]]) -> None:
        """Store the source's frames (H W 3 uint8, seconds when it comes, seconds it is shown), one after another."""
        times: list[str] = []
        end = Fraction(0)
        shape: list[int] = []
        with _atomic(self.folder / FRAMES) as temporary, temporary.open("wb") as file:
            for picture, time, duration in frames:
                times.append(str(time))
                end = time + duration
                shape = list(picture.shape)
                file.write(np.ascontiguousarray(picture).data)
        self._manifest.times, self._manifest.end, self._manifest.frame_shape = times, str(end), shape
        self._add(FRAMES)

    def write_latents(self, timestep: int, groups: Iterable[Tensor]) -> None:
        """Store the latents of a time step, g c h w of some frames after another's; then they outlive a crash.

        The file is of safetensors' format, whose own writer needs all of it in memory.
        """
        name = _part(timestep)
        with _atomic(self.folder / name) as temporary, temporary.open("wb") as file:
            for group in groups:
                if not file.tell():
                    file.write(_header((self.frame_count, *group.shape[1:])))
                file.write(group.detach().float().cpu().contiguous().numpy().data)
        self._add(name)

    def finish(self, report: dict[str, Any]) -> None:
        """Store stage 1's report, as JSON values, and say that everything is there."""
        with _atomic(self.folder / REPORT) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        self._manifest.complete = True
        self._add(REPORT)

    def report(self) -> dict[str, Any]:
        """What `finish` was given.

        Raises:
            TrajectoryError: it is missing or damaged.
        """
        self._verify(REPORT)
        return json.loads((self.folder / REPORT).read_text(encoding="utf-8"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing; a second process waits until the first is done (or has died).

        The manifest is read anew once the lock is held, since the first process may have finished the work; and what
        a killed process had not finished writing is cleared away.

        Raises:
            OutputError: nothing can be written there.

        Warns:
            TokenflowWarning: another process holds it, and this one waits.
        """
        with ExitStack() as stack:
            remedy = "set trajectories.dir to a place that can be written to"
            stack.enter_context(locked(self.folder, self._say_that_we_wait, remedy))
            with output_errors(self.folder, remedy):
                for unfinished in filter(_is_unfinished, self.folder.iterdir()):
                    unfinished.unlink()
            self._manifest = self._load(self._manifest.made_from)
            yield

    def _say_that_we_wait(self) -> None:
        warnings.warn(
            f"another run is making {self.folder}; waiting until it is done",
            WaitingWarning,
            stacklevel=2,
        )

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
                f"{path} is of format {version}, and this version reads format {FORMAT}; {self._remedy()}"
            )
        if vouched != _checksum_of(content):
            raise TrajectoryError(f"{path} is damaged: it is not what was written; {self._remedy()}")
        manifest = _Manifest(**content)
        for key, value in made_from.items():
            if manifest.made_from.get(key) != value:
                raise TrajectoryError(
                    f"{self.folder} was made from another {key} ({manifest.made_from.get(key)!r}, not {value!r}); "
                    f"{self._remedy()}, or set another trajectories.dir"
                )
        return manifest

    def _add(self, name: str) -> None:
        self._manifest.parts[name] = checksum(self.folder / name)
        self._verified.add(name)
        self._save()

    def _save(self) -> None:
        content = asdict(self._manifest)
        with _atomic(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps({**content, "checksum": _checksum_of(content)}, indent=1), encoding="utf-8")

    def _verify(self, name: str) -> None:
        """Compare a part with its checksum, the first time it is read."""
        if name in self._verified:
            return
        path = self.folder / name
        try:
            sound = checksum(path) == self._manifest.parts.get(name)
        except OSError as error:
            raise TrajectoryError(f"{path} cannot be read ({error}); {self._remedy()}") from error
        if not sound:
            raise TrajectoryError(f"{path} is damaged: it is not what was written; {self._remedy()}")
        self._verified.add(name)

    def check_parts(self) -> None:
        """See that the file of every part is there; what is in it is compared with its checksum when it is read.

        Raises:
            TrajectoryError: one is missing.
        """
        for name in self._manifest.parts:
            if not (self.folder / name).is_file():
                raise TrajectoryError(f"{self.folder / name} is missing; {self._remedy()}")

    def _remedy(self) -> str:
        return f"delete the folder {self.folder} and run the preprocessing again"


def _is_unfinished(path: Path) -> bool:
    """Whether a file is called as one is by us while it is written; all else that is hidden is somebody else's."""
    return path.is_file() and re.fullmatch(_UNFINISHED, path.name) is not None


def _part(timestep: int) -> str:
    return CLEAN_PART if timestep == CLEAN else f"t{timestep:04d}.safetensors"


def _checksum_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    """What stands before the values of latents f c h w, float32, in a safetensors file."""
    size = 4 * math.prod(shape)
    text = json.dumps({"latents": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}})
    text += " " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text.encode()


@contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` once all is written and on disk, and goes if anything fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        if isinstance(error, TokenflowError):  # a clip that cannot be read on is no matter of writing
            raise
        raise OutputError(
            f"cannot write {path} ({getattr(error, 'strerror', None) or error}); free some space, or set another "
            "trajectories.dir"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
