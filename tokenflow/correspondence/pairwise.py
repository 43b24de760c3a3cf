"""Correspondence of pairs of frames, each found once and kept in a file. Knows no way of finding it."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from tokenflow.correspondence.base import Map, identity
from tokenflow.errors import OutputError
from tokenflow.rows import RowFile

MOST_PAIRS = 2**40
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
            raise self._failed(error) from error
        self._places: dict[tuple[int, int], int] = {}

    def get(self, pair: tuple[int, int], make: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """The array of a pair; `make` makes it, if it is not there yet."""
        if pair not in self._places:
            self._keep(pair, make(*pair))
        return self._rows[self._places[pair]]

    def _keep(self, pair: tuple[int, int], array: np.ndarray) -> None:
        if not self._places:
            self._rows = RowFile(self._file, (MOST_PAIRS, *array.shape), array.dtype.type)
        place = len(self._places)
        try:
            self._rows[[place]] = array[None]
        except OSError as error:
            raise self._failed(error) from error
        self._places[pair] = place

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write to {self._folder} ({error.strerror or error}); free some space there")


class Pairwise(ABC):
    """Token maps from fields between two frames, which serve every token grid.

    Args:
        folder: on whose disk fields rest; by default where the system has its temporary files.

    Raises:
        OutputError: (when made or used) the folder cannot be written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._fields = PairFile(folder)

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> Map:
        """Where each token of `frame` lies in `keyframe`, and how sure that is."""
        positions, confidence = identity(height, width)
        if frame == keyframe:
            return positions, confidence
        cells = cv2.resize(self._field(frame, keyframe), (width, height), interpolation=cv2.INTER_AREA)
        moved = torch.from_numpy(cells.reshape(-1, 3))
        return positions + moved[:, :2] * torch.tensor([width, height]), moved[:, 2]

    @abstractmethod
    def _find(self, first: int, second: int) -> np.ndarray:
        """The fields of first → second and of second → first, the earlier frame first: 2 h w 3.

        Displacement x, y in pictures' widths and heights, so that it means the same on every grid, and confidence.
        """
        ...

    def _field(self, frame: int, keyframe: int) -> np.ndarray:
        """The field of frame → keyframe, h w 3 float32."""
        pair = min(frame, keyframe), max(frame, keyframe)
        return self._fields.get(pair, self._find)[0 if frame < keyframe else 1].astype(np.float32)
