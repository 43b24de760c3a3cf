"""New results in the place of earlier ones, whole or not there, and over nothing else.

The report.json of an edit lists the files it left, with their checksums. What is listed there and still the same may
be replaced or deleted by the next edit; everything else belongs to the user. Knows folders; knows no video.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tokenflow.errors import OutputError, TokenflowError
from tokenflow.locking import locked

REPORT = "report.json"
FILES = "files"
"""Where report.json lists the other files, as `checksums` gives them."""


@contextmanager
def whole_or_not(folder: Path, patterns: Collection[str], sources: Collection[Path]) -> Iterator[Path]:
    """A folder to write results into, which move to `folder` once all are written; else nothing is left of them.

    Args:
        folder: where results go.
        patterns: of the names that results can have in it, such as `frames/frame_*.png`.
        sources: files that are to stay, and folders in which nothing is to come or go.

    Raises:
        OutputError: nothing can be written there, another run is at it, or something would be lost. Entered before
            the work, it says so before the work.
    """
    temporary = folder / ".partial"
    try:
        with locked(folder, partial(_refuse, folder)):
            try:
                _refuse_to_lose(folder, patterns, sources)
                shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
                temporary.mkdir()
                yield temporary
                _move_all(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if isinstance(error, TokenflowError):  # a missing clip or model is a FileNotFoundError, and no matter of output
            raise
        raise OutputError(
            f"cannot write to {folder} ({error.strerror or error}); make room, or set output.dir to another place"
        ) from error


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder and below, by its name from there."""
    return {name: _checksum(folder / name) for name in _names(folder)}


def _refuse(folder: Path) -> None:
    raise OutputError(f"another run is writing to {folder}; wait until it is done, or set another output.dir")


def _refuse_to_lose(folder: Path, patterns: Collection[str], sources: Collection[Path]) -> None:
    earlier = {folder / name for name in _left_by_an_edit(folder)}
    there = {path for pattern in patterns for path in folder.glob(pattern)}
    into = {(folder / pattern).parent for pattern in patterns}
    kept = set(map(_place, sources))
    for path in sorted(there | earlier | into):
        if _place(path) in kept:
            raise OutputError(
                f"{path} belongs to the clip or to its mask, and would be replaced, deleted or added to by results in "
                f"{folder}; set another output.dir"
            )
    for path in sorted(there - earlier):
        raise OutputError(
            f"{path} is not what an edit left there (report.json lists that), and would be replaced; move it away, or "
            "set another output.dir"
        )


def _place(path: Path) -> Path:
    """Where a folder is, or the entry of a file, be that a link."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _left_by_an_edit(folder: Path) -> set[str]:
    """The names of an edit's files in a folder that nobody has changed, its report.json among them."""
    try:
        listed = dict(json.loads((folder / REPORT).read_bytes())[FILES])
    except (OSError, ValueError, TypeError, LookupError):
        return set()
    return {REPORT, *(name for name in listed if _checksum_or_none(folder / name) == listed[name])}


def _move_all(temporary: Path, folder: Path) -> None:
    """Put new results in the place of earlier ones; the report goes first and comes last, and vouches for the rest."""
    new, earlier = _names(temporary), _left_by_an_edit(folder)
    (folder / REPORT).unlink(missing_ok=True)
    for name in earlier - {*new, REPORT}:
        (folder / name).unlink()
        with suppress(OSError):  # there is something else in it
            (folder / name).parent.rmdir()
    for name in sorted(new, key=lambda name: name == REPORT):
        (folder / name).parent.mkdir(exist_ok=True)
        (temporary / name).replace(folder / name)


def _names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum_or_none(path: Path) -> str | None:
    with suppress(OSError):
        return _checksum(path)
    return None
