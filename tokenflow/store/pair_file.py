"""Arrays of pairs of frames in a file. Knows nothing of what they are."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tokenflow.diffusion.latents import RowFile, cannot_write

MAX_PAIRS = 2**40
"""More rows than any clip fills; a file is as large as what is written to it."""


class PairFile:
    """An array for each pair of frames, all of one shape and type, made once and kept in a file without a name.

    Keyframes are other ones at each step, and a long clip has many pairs. In memory, thousands of arrays between the
    network's large tensors would keep the heap from shrinking, too.

    Args:
        folder: on whose disk the file is; by default where the system has its temporary files.

    Raises:
        OutputError: (when made or used) the folder cannot be written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as its arrays are
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        self._rows: RowFile | None = None
        self._places: dict[tuple[int, int], int] = {}

    def get(self, pair: tuple[int, int], make: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """The array of a pair; `make` makes it, if it is not there yet."""
        if self._rows is None or pair not in self._places:
            return self._kept(pair, make(*pair))
        return self._rows[self._places[pair]]

    def _kept(self, pair: tuple[int, int], array: np.ndarray) -> np.ndarray:
        self._rows = self._rows or RowFile(self._file, (MAX_PAIRS, *array.shape), array.dtype.type)
        place = len(self._places)
        try:
            self._rows[[place]] = array[None]
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        self._places[pair] = place
        return array
