"""Arrays in files: frames, latents and pairs of frames, larger together than main memory.

Files are read and written row by row and never memory-mapped, so that memory does not grow with the clip.
"""

import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from torch import Tensor

from tokenflow.diffusion.latents import Scratch
from tokenflow.store.files import output_errors

MAX_PAIRS = 2**40
"""More pairs than any clip has; a file is as large as what is written to it."""

REMEDY = "free some space there"


class ArrayFile:
    """An array in a file, indexed along its first axis: `file[3]` is one row, `file[[3, 0]]` are two.

    Threads may share it.

    Args:
        file: open for reading, and unbuffered for writing if rows are set; closed with this object.
        shape: of the whole array.
        dtype: of its values.
    """

    def __init__(self, file: IO[bytes], shape: Sequence[int], dtype: np.dtype | type) -> None:
        self._file = file
        self._turn = threading.Lock()  # a file has one position, which seek and read share
        self._dtype = np.dtype(dtype)
        self.shape = tuple(shape)
        self._row_bytes = int(np.prod(self.shape[1:])) * self._dtype.itemsize
        weakref.finalize(self, file.close)

    def close(self) -> None:
        """Close the file; nothing can be read any more."""
        self._file.close()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | Sequence[int]) -> np.ndarray:
        if not isinstance(rows, Sequence):
            return self._read(int(rows)).reshape(self.shape[1:])
        return np.stack([self._read(row) for row in rows]).reshape(-1, *self.shape[1:])

    def __setitem__(self, rows: Sequence[int], values: np.ndarray) -> None:
        for row, value in zip(rows, values, strict=True):
            self._write(row, np.ascontiguousarray(value, self._dtype).tobytes())

    def _read(self, row: int) -> np.ndarray:
        with self._turn:
            self._file.seek(self._offset(row))
            return np.frombuffer(self._file.read(self._row_bytes), self._dtype)

    def _write(self, row: int, data: bytes) -> None:
        with self._turn:
            self._file.seek(self._offset(row))
            while data:  # a disk that fills up takes a part first, and fails at the next
                data = data[self._file.write(data) :]

    def _offset(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return row * self._row_bytes


def temporary_array(shape: Sequence[int], dtype: np.dtype | type, folder: Path | None = None) -> ArrayFile:
    """An array in a temporary file, in a folder or in the system's for temporary files; deleted with this object.

    Raises:
        OutputError: nothing can be written there.
    """
    return ArrayFile(_temporary_file(folder or Path(tempfile.gettempdir())), shape, dtype)


class LatentFile:
    """Latents f c h w, float32, in a temporary file.

    Args:
        shape: f c h w.
        folder: where the file is.

    Raises:
        OutputError: (when made or set) nothing can be written to the folder.
    """

    def __init__(self, shape: Sequence[int], folder: Path) -> None:
        self._folder = folder
        self._rows = temporary_array(shape, np.float32, folder)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: list[int]) -> Tensor:
        # Without the clone, memory is aligned differently and results differ in their last bits.
        return torch.from_numpy(self._rows[indices]).clone()

    def __setitem__(self, indices: list[int], latents: Tensor) -> None:
        with output_errors(self._folder, REMEDY):
            self._rows[indices] = latents.cpu().numpy()


def on_disk(folder: Path) -> Scratch:
    """Allocates latents in temporary files in a folder, each deleted with its `LatentFile`.

    Raises:
        OutputError: (when allocated or set) nothing can be written to the folder.
    """
    return lambda shape: LatentFile(shape, folder)


class Kept(Protocol):
    """Arrays of pairs that an earlier run left."""

    def __contains__(self, pair: tuple[int, int]) -> bool: ...

    def __getitem__(self, pair: tuple[int, int]) -> np.ndarray: ...


class PairFile:
    """One array per pair of frames, all of one shape and dtype, computed once and kept in a temporary file.

    A long clip has many pairs, since the keyframes change at every step. In memory, thousands of arrays between the
    network's large tensors would also keep the heap from shrinking. Threads may share it: what one of them is at, the
    others wait for.

    Args:
        folder: where the file is; by default the system's folder for temporary files.
        kept: arrays that need not be computed.

    Raises:
        OutputError: (when made or used) nothing can be written to the folder.
    """

    def __init__(self, folder: Path | None = None, kept: Kept | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        self._file = _temporary_file(self._folder)
        weakref.finalize(self, self._file.close)
        self._kept = kept
        self._arrays: ArrayFile | None = None  # once the first array has told their shape
        self._rows: dict[tuple[int, int], int] = {}
        self._in_work: set[tuple[int, int]] = set()
        self._changed = threading.Condition()

    @property
    def computed(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """The pairs that were computed, each with its array."""
        if self._arrays is not None:
            for pair, row in self._rows.items():
                yield pair, self._arrays[row]

    def get(self, pair: tuple[int, int], compute: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """The array of a pair of frames, from `compute` where it is not there yet."""
        if self._kept is not None and pair in self._kept:
            return self._kept[pair]
        with self._changed:
            self._changed.wait_for(lambda: pair not in self._in_work)
            if self._arrays is not None and pair in self._rows:
                return self._arrays[self._rows[pair]]
            self._in_work.add(pair)
        try:
            return self._store(pair, compute(*pair))
        finally:
            with self._changed:
                self._in_work.discard(pair)
                self._changed.notify_all()

    def _store(self, pair: tuple[int, int], array: np.ndarray) -> np.ndarray:
        with self._changed:
            self._arrays = self._arrays or ArrayFile(self._file, (MAX_PAIRS, *array.shape), array.dtype)
            row = len(self._rows)
            with output_errors(self._folder, REMEDY):
                self._arrays[[row]] = array[None]
            self._rows[pair] = row
        return array


def _temporary_file(folder: Path) -> IO[bytes]:
    """A file deleted when it is closed. Hidden, since it has a name on Windows."""
    with output_errors(folder, REMEDY):
        return tempfile.TemporaryFile(dir=folder, prefix=".tokenflow-", buffering=0)
