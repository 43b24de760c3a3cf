"""Token maps from fields between pairs of frames, each found once."""

from abc import ABC, abstractmethod
from pathlib import Path

import cv2
import numpy as np
import torch

from tokenflow.correspondence.base import Map, identity
from tokenflow.store.arrays import PairFile


class Pairwise(ABC):
    """Token maps from fields between two frames, which serve every token grid.

    Args:
        folder: where fields are kept on disk; by default the system's temporary folder.

    Raises:
        OutputError: (when made or used) the folder cannot be written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._fields = PairFile(folder)

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> Map:
        """Where each token of `frame` lies in `keyframe`, and how confident that is."""
        positions, confidence = identity(height, width)
        if frame == keyframe:
            return positions, confidence
        cells = cv2.resize(self._field(frame, keyframe), (width, height), interpolation=cv2.INTER_AREA)
        moved = torch.from_numpy(cells.reshape(-1, 3))
        return positions + moved[:, :2] * torch.tensor([width, height]), moved[:, 2]

    def prepare(self, first: int, second: int) -> None:
        """Find the fields between two frames, the earlier first, before `maps` asks for them."""
        self._fields.get((first, second), self.find)

    @abstractmethod
    def find(self, first: int, second: int) -> np.ndarray:
        """The fields of first → second and of second → first, the earlier frame first: 2 h w 3.

        Displacement x, y in widths and heights of the frame, so that it means the same on every grid, and confidence.
        """
        ...

    def _field(self, frame: int, keyframe: int) -> np.ndarray:
        """The field of frame → keyframe, h w 3 float32."""
        pair = min(frame, keyframe), max(frame, keyframe)
        return self._fields.get(pair, self.find)[0 if frame < keyframe else 1].astype(np.float32)
