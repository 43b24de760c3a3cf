"""Token maps from fields between pairs of frames, each found once."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Self

import cv2
import numpy as np
import torch

from tokenflow.correspondence.base import Map, identity
from tokenflow.errors import OutputError
from tokenflow.events import notice
from tokenflow.store.arrays import PairFile
from tokenflow.store.kept_pairs import KeptPairs


class Pairwise(ABC):
    """Token maps from fields between two frames, which serve every token grid.

    As a context manager it ends the search ahead, and adds to `kept` what was found.

    Args:
        folder: where fields are on disk; by default the system's temporary folder.
        kept: fields of earlier edits.

    Raises:
        OutputError: (when made or used) the folder cannot be written to.
    """

    needs_network: ClassVar[bool]
    """Whether fields come from the network, which cannot be asked while it works."""

    def __init__(self, folder: Path | None = None, kept: KeptPairs | None = None) -> None:
        self._kept = kept
        self._fields = PairFile(folder, kept)
        self._ahead: threading.Thread | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._ahead is not None:
            self._ahead.join()  # no longer than one field takes
        for found, kept in self.kept:
            try:
                kept.add(found.computed)
            except OutputError as error:
                notice(f"{error}; until then, every edit of this clip finds its correspondences itself")
            finally:
                kept.close()

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

    def find_ahead(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Find fields in a thread, in this order, while the caller does other work.

        The thread ends at an error; whoever asks for the field that it could not find then meets the error itself.
        """

        def find_all() -> None:
            for pair in pairs:
                if self._ended.is_set():
                    return
                try:
                    self.prepare(*pair)
                except Exception:
                    return

        self._ahead = threading.Thread(target=find_all, name="correspondences ahead", daemon=True)
        self._ahead.start()

    @property
    def kept(self) -> list[tuple[PairFile, KeptPairs]]:
        """What was found, and where it is kept."""
        return [] if self._kept is None else [(self._fields, self._kept)]

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
