"""Arrays of pairs of frames in a file that outlives the run that computed them.

The file holds the arrays one after the other, then a line of JSON (what they were made from, their shape and dtype, and
the pair that each belongs to), the length of that line, and a SHA-256 of all before. It is replaced as a whole.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tokenflow.events import notice
from tokenflow.store.arrays import ArrayFile
from tokenflow.store.files import output_errors, write_atomically

SUFFIX = ".pairs"
FORMAT = 1
LENGTH_BYTES, DIGEST_BYTES = 8, 32
"""At the end of the file."""

CHUNK = 2**20

Pair = tuple[int, int]


class KeptPairs:
    """Arrays per pair of frames, all of one shape and dtype.

    A file that was made from anything else counts as empty, and so does a damaged one, with a notice.

    Args:
        path: the file, which need not exist.
        made_from: what the arrays depend on, as JSON values.
        lock: keeps others from writing to the file.
        remedy: what to do where the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        made_from: Mapping[str, Any],
        lock: Callable[[], AbstractContextManager[None]],
        remedy: str,
    ) -> None:
        self._path = path
        self._made_from = {"format": FORMAT, **made_from}
        self._lock = lock
        self._remedy = remedy
        self._rows: dict[Pair, int] = {}
        self._arrays: ArrayFile | None = None
        self._read()

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._rows

    def __getitem__(self, pair: Pair) -> np.ndarray:
        if self._arrays is None:
            raise KeyError(pair)
        return self._arrays[self._rows[pair]]

    def add(self, arrays: Iterable[tuple[Pair, np.ndarray]]) -> None:
        """Keep more of them, beside those that other runs have added meanwhile; remove what a killed run left.

        Nothing is kept where the folder is gone.

        Raises:
            OutputError: they cannot be written; then the file is as it was.
        """
        arrays = iter(arrays)
        head = next(arrays, None)
        if not self._path.parent.is_dir() or (head is None and not self._unfinished()):
            return
        with self._lock():
            self._remove_unfinished()
            if head is None:
                return
            self._read()
            missing = ((pair, array) for pair, array in chain([head], arrays) if pair not in self)
            first = next(missing, None)
            if first is None:
                return
            with write_atomically(self._path, self._remedy) as temporary:
                with output_errors(self._path, self._remedy), temporary.open("wb") as file:
                    _write(file, self._made_from, self._all(first, missing))
                self.close()
            self._read()

    def _all(
        self, first: tuple[Pair, np.ndarray], others: Iterator[tuple[Pair, np.ndarray]]
    ) -> Iterator[tuple[Pair, np.ndarray]]:
        """Those that are in the file, and then the new ones."""
        yield from ((pair, self[pair]) for pair in self._rows)
        yield first
        yield from others

    def _unfinished(self) -> list[Path]:
        """What processes are writing, or were when they were killed."""
        return list(self._path.parent.glob(f".{self._path.name}.*"))

    def _remove_unfinished(self) -> None:
        """Remove what a killed process was writing."""
        with output_errors(self._path, self._remedy):
            for path in self._unfinished():
                path.unlink()

    def close(self) -> None:
        """Close the file, which Windows replaces only then; nothing can be read until more is added."""
        if self._arrays is not None:
            self._arrays.close()
        self._rows, self._arrays = {}, None

    def _read(self) -> None:
        self.close()
        try:
            file = self._path.open("rb")
        except OSError:  # what cannot be read is found again
            return
        try:
            content = _index(file)
        except (ValueError, TypeError, LookupError) as error:
            notice(f"{self._path} is damaged ({error}); what it held is found again")
            content = {}
        if content.get("made_from") != self._made_from:
            file.close()
            return
        pairs = [(first, second) for first, second in content["pairs"]]
        self._rows = {pair: row for row, pair in enumerate(pairs)}
        self._arrays = ArrayFile(file, (len(pairs), *content["shape"]), np.dtype(content["dtype"]))


def index_bytes(pairs: int) -> int:
    """Bytes of a file beside its arrays, roughly."""
    return 12 * pairs + 600


def _write(file: BinaryIO, made_from: Mapping[str, Any], arrays: Iterable[tuple[Pair, np.ndarray]]) -> None:
    digest = hashlib.sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    pairs: list[Pair] = []
    shape: Sequence[int] = ()
    dtype = ""
    for pair, array in arrays:
        pairs.append(pair)
        shape, dtype = array.shape, array.dtype.str
        write(np.ascontiguousarray(array).tobytes())
    index = json.dumps({"made_from": made_from, "shape": shape, "dtype": dtype, "pairs": pairs}).encode()
    write(index)
    write(len(index).to_bytes(LENGTH_BYTES, "little"))
    file.write(digest.digest())


def _index(file: BinaryIO) -> dict[str, Any]:
    """The JSON of a file.

    Raises:
        ValueError: the file is not as it was written.
    """
    end = file.seek(0, 2) - DIGEST_BYTES
    if end < LENGTH_BYTES:
        raise ValueError("it is too short")
    file.seek(0)
    digest, left = hashlib.sha256(), end
    while left:
        chunk = file.read(min(CHUNK, left))
        digest.update(chunk)
        left -= len(chunk)
    if digest.digest() != file.read(DIGEST_BYTES):
        raise ValueError("its content has changed since it was written")
    file.seek(end - LENGTH_BYTES)
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    file.seek(end - LENGTH_BYTES - length)
    return json.loads(file.read(length))
