"""New results in the place of earlier ones, whole or not there, and over nothing else.

The report.json of an edit lists the files it left, with their checksums. What is listed there and still the same may
be replaced or deleted by the next edit; everything else belongs to the user. Knows folders; knows no video.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tokenflow.errors import OutputError, TokenflowError
from tokenflow.locking import locked

REPORT = "report.json"
FILES = "files"
"""Where report.json lists the other files, as `checksums` gives them."""

_EARLIER = "earlier.json"
"""What the report of the results that are replaced is called meanwhile."""


@contextmanager
def whole_or_not(folder: Path, patterns: Collection[str], sources: Collection[Path]) -> Iterator[Path]:
    """A folder to write results into, which move to `folder` once all are written; else nothing is left of them.

    From the moment they are whole they are bound to arrive: a run that is killed while they move leaves some files of
    each result and no report.json, and the next run completes the move before all else.

    Args:
        folder: where results go.
        patterns: of the names that results can have in it, such as `frames/frame_*.png`.
        sources: files that are to stay, and folders in which nothing is to come or go.

    Raises:
        OutputError: nothing can be written there, another run is at it, or something would be lost. Entered before
            the work, it says so before the work.
    """
    temporary, whole = folder / ".partial", folder / ".whole"
    try:
        with locked(folder, partial(_refuse, folder)):
            try:
                _move_all(whole, folder)
                _refuse_to_lose(folder, patterns, sources)
                shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
                temporary.mkdir()
                yield temporary
                temporary.rename(whole)
                _move_all(whole, folder)
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
    listed = _listed(folder / REPORT)
    return {REPORT, *_unchanged(folder, listed)} if listed else set()


def _listed(report: Path) -> dict[str, str]:
    """The files that a report lists, with their checksums; none where it is no edit's."""
    try:
        return dict(json.loads(report.read_bytes())[FILES])
    except (OSError, ValueError, TypeError, LookupError):
        return {}


def _unchanged(folder: Path, listed: Mapping[str, str]) -> list[str]:
    return [name for name, checksum in listed.items() if _checksum_or_none(folder / name) == checksum]


def _move_all(whole: Path, folder: Path) -> None:
    """Put new results in the place of earlier ones, or go on with that; nothing is done where there are none.

    The earlier report goes first and the new one comes last, so that report.json vouches for the rest.
    """
    report, earlier = whole / REPORT, whole / _EARLIER
    if report.exists():
        with suppress(FileNotFoundError):
            (folder / REPORT).replace(earlier)
        for name in _unchanged(folder, _listed(earlier)):
            if name not in _listed(report):
                _delete(folder / name)
        for name in _listed(report):
            with suppress(FileNotFoundError):  # it has moved already
                (folder / name).parent.mkdir(exist_ok=True)
                (whole / name).replace(folder / name)
        report.replace(folder / REPORT)
    shutil.rmtree(whole, ignore_errors=True)


def _delete(path: Path) -> None:
    path.unlink()
    with suppress(OSError):  # there is something else in its folder
        path.parent.rmdir()


def _names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum_or_none(path: Path) -> str | None:
    with suppress(OSError):
        return _checksum(path)
    return None
