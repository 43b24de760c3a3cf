"""Frames or latents of a whole clip, some at a time: interfaces, and files of them. Knows nothing of what they show.

Files are read and written by rows and never mapped, so that memory does not grow with the clip.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tokenflow.errors import OutputError


class Frames(Protocol):
    """The frames of a clip, f H W 3 uint8; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """f H W 3."""
        ...

    def __len__(self) -> int:
        """How many frames there are."""
        ...

    def __getitem__(self, frames: Any, /) -> np.ndarray:
        """H W 3 of one frame, g H W 3 of a list of them."""
        ...


class Latents(Protocol):
    """The latents of a clip; a tensor f c h w is one."""

    def __len__(self) -> int:
        """How many frames there are."""
        ...

    def __getitem__(self, frames: list[int], /) -> Tensor:
        """g c h w of some frames."""
        ...


class WritableLatents(Latents, Protocol):
    """Latents that can be set, some frames at a time."""

    def __setitem__(self, frames: list[int], latents: Tensor, /) -> None:
        """Set g c h w of some frames."""
        ...


@dataclass(frozen=True)
class ReadLatents:
    """Latents that are read or computed when they are asked for.

    Attributes:
        count: of frames.
        read: frames -> their latents, g c h w.
    """

    count: int
    read: Callable[[list[int]], Tensor]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frames: list[int]) -> Tensor:
        return self.read(frames)


Scratch = Callable[[Sequence[int]], WritableLatents]
"""Makes room for the latents of a clip, of the shape f c h w."""


def in_memory(shape: Sequence[int]) -> Tensor:
    """Room in main memory."""
    return torch.empty(tuple(shape))


def on_disk(folder: Path) -> Scratch:
    """Room in files without a name in a folder, which go with whoever holds them.

    Raises:
        OutputError: (when room is made or used) the folder cannot be written to.
    """
    return lambda shape: LatentFile(shape, folder)


class RowFile:
    """Rows of one shape and type in a file; `file[3]` is one, `file[[3, 0]]` are two.

    Args:
        file: open for reading, and for writing if rows are set; closed with this object.
        shape: of all rows together.
        dtype: of their values.
    """

    def __init__(self, file: IO[bytes], shape: Sequence[int], dtype: type) -> None:
        self._file = file
        self._dtype = np.dtype(dtype)
        self.shape = tuple(shape)
        self._row = int(np.prod(self.shape[1:])) * self._dtype.itemsize

    def __del__(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | Sequence[int]) -> np.ndarray:
        if not isinstance(rows, Sequence):
            return self._read(int(rows)).reshape(self.shape[1:])
        return np.stack([self._read(row) for row in rows]).reshape(-1, *self.shape[1:])

    def __setitem__(self, rows: Sequence[int], values: np.ndarray) -> None:
        for row, value in zip(rows, values, strict=True):
            data, place = np.ascontiguousarray(value, self._dtype).tobytes(), self._place(row)
            while data:  # a full disk takes a part, and only then says so
                written = os.pwrite(self._file.fileno(), data, place)
                data, place = data[written:], place + written

    def _read(self, row: int) -> np.ndarray:
        return np.frombuffer(os.pread(self._file.fileno(), self._row, self._place(row)), self._dtype)

    def _place(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return row * self._row


class LatentFile:
    """Latents f c h w, float32, in a file without a name.

    Args:
        shape: f c h w.
        folder: on whose disk it is.

    Raises:
        OutputError: (when made or set) the folder cannot be written to.
    """

    def __init__(self, shape: Sequence[int], folder: Path) -> None:
        self._folder = folder
        try:
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as its rows are
        except OSError as error:
            raise cannot_write(folder, error) from error
        self._rows = RowFile(file, shape, np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, frames: list[int]) -> Tensor:
        return torch.from_numpy(self._rows[frames]).clone()  # aligned in memory, or results differ in their last bits

    def __setitem__(self, frames: list[int], latents: Tensor) -> None:
        try:
            self._rows[frames] = latents.cpu().numpy()
        except OSError as error:
            raise cannot_write(self._folder, error) from error


def cannot_write(folder: Path, error: OSError) -> OutputError:
    """What to raise when a file in a folder cannot be made or written to."""
    return OutputError(f"cannot write to {folder} ({error.strerror or error}); free some space there")
