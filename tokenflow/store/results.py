"""New results in the place of earlier ones, whole or not there, and over nothing else.

The report.json of an edit lists the files it left, with their checksums. What is listed there and still the same may
be replaced or deleted by the next edit; everything else belongs to the user. A report that lists a name which no result
has is somebody else's, and so is a folder for unfinished results without our mark. Knows folders; knows no video.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tokenflow.errors import OutputError, TokenflowError
from tokenflow.store.checksum import checksum
from tokenflow.store.locking import locked

REPORT = "report.json"
FILES = "files"
"""Where report.json lists the other files, as `checksums` gives them."""

_EARLIER = "earlier.json"
"""What the report of the results that are replaced is called meanwhile."""

MARK = ".made-by-tokenflow"
"""An empty file by which a folder for unfinished results is known to be ours."""


@contextmanager
def replace_atomically(
    folder: Path, patterns: Collection[str], sources: Collection[Path], names: re.Pattern[str]
) -> Iterator[Path]:
    """A folder to write results into, which move to `folder` once all are written; else nothing is left of them.

    From the moment they are whole they are bound to arrive: a run that is killed while they move leaves some files of
    each result and no report.json, and the next run completes the move before all else.

    Args:
        folder: where results go.
        patterns: of the names that these results can have in it, such as `frames/frame_*.png`.
        sources: files that are to stay, and folders in which nothing is to come or go.
        names: what the files that a report lists can be called, whatever was asked for.

    Raises:
        OutputError: nothing can be written there, another run is at it, or something would be lost. Entered before
            the work, it says so before the work.
    """
    temporary, whole = folder / ".tokenflow-partial", folder / ".tokenflow-whole"
    try:
        with locked(folder, partial(_refuse, folder)):
            _move_all(whole, folder, names)
            _refuse_to_lose(folder, patterns, sources, names)
            _remove(temporary)  # of a run that was killed
            try:
                temporary.mkdir()
                (temporary / MARK).touch()
                yield temporary
                temporary.rename(whole)
                _move_all(whole, folder, names)
            finally:
                with suppress(OSError):
                    _remove(temporary)
    except OSError as error:
        if isinstance(error, TokenflowError):  # a missing clip or model is a FileNotFoundError, and no matter of output
            raise
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise OutputError(
                f"cannot write to {folder} (it, or what it lies in, is no folder); set output.dir to another place"
            ) from error
        raise OutputError(
            f"cannot write to {folder} ({error.strerror or error}); make room, or set output.dir to another place"
        ) from error


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder and below, by its name from there."""
    return {name: checksum(folder / name) for name in _names(folder)}


def report_checksum(folder: Path) -> str | None:
    """SHA-256 of the report of the results in a folder; None if there is none."""
    return _checksum_or_none(folder / REPORT)


def is_whole(folder: Path) -> bool:
    """Whether there are results in a folder, and every file that their report lists; none of these is read."""
    try:
        return all((folder / name).is_file() for name in json.loads((folder / REPORT).read_bytes())[FILES])
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _refuse(folder: Path) -> None:
    raise OutputError(f"another run is writing to {folder}; wait until it is done, or set another output.dir")


def _refuse_to_lose(folder: Path, patterns: Collection[str], sources: Collection[Path], names: re.Pattern[str]) -> None:
    earlier = {folder / name for name in _left_by_an_edit(folder, names)}
    named = {folder / pattern for pattern in patterns if os.path.lexists(folder / pattern)}  # a link to nothing, too
    there = named | {path for pattern in patterns for path in folder.glob(pattern)}
    into = {(folder / pattern).parent for pattern in patterns}
    kept = set(map(_place, sources))
    for path in sorted(there | earlier | into):
        if _place(path) in kept:
            raise OutputError(
                f"{path} belongs to the clip or to its mask, and would be replaced, deleted or added to by results in "
                f"{folder}; set another output.dir"
            )
    for path in sorted(into):
        if os.path.lexists(path) and not path.is_dir():
            raise OutputError(
                f"{path} is no folder, and results would go into it; move it away, or set another output.dir"
            )
    for path in sorted(there - earlier):
        raise OutputError(
            f"{path} is not what an edit left there (report.json lists that), and would be replaced; move it away, or "
            "set another output.dir"
        )


def _place(path: Path) -> Path:
    """Where a folder is, or the entry of a file, be that a link."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _left_by_an_edit(folder: Path, names: re.Pattern[str]) -> set[str]:
    """The names of an edit's files in a folder that nobody has changed, its report.json among them."""
    listed = _listed(folder / REPORT, names)
    return {REPORT, *_unchanged(folder, listed)} if listed else set()


def _listed(report: Path, names: re.Pattern[str]) -> dict[str, str]:
    """The files that a report lists, with their checksums; none where it lists nothing.

    Raises:
        OutputError: it lists a file that no edit leaves.
    """
    try:
        listed = dict(json.loads(report.read_bytes())[FILES])
    except (OSError, ValueError, TypeError, LookupError):
        return {}
    for name in listed:
        if not names.fullmatch(str(name)):
            raise OutputError(
                f"{report} is no edit's: it lists {name!r}, which no edit leaves, and what it lists would be replaced "
                "or deleted; move it away, or set another output.dir"
            )
    return listed


def _unchanged(folder: Path, listed: Mapping[str, str]) -> list[str]:
    return [name for name, checksum in listed.items() if _checksum_or_none(folder / name) == checksum]


def _move_all(whole: Path, folder: Path, names: re.Pattern[str]) -> None:
    """Put new results in the place of earlier ones, or go on with that; nothing is done where there are none.

    The earlier report goes first and the new one comes last, so that report.json vouches for the rest.
    """
    report, earlier = whole / REPORT, whole / _EARLIER
    if _is_ours(whole) and report.exists():
        new, old = _listed(report, names), _listed(folder / REPORT, names) or _listed(earlier, names)
        with suppress(FileNotFoundError):
            (folder / REPORT).replace(earlier)
        for name in _unchanged(folder, old):
            if name not in new:
                _delete(folder / name)
        for name in new:
            with suppress(FileNotFoundError):  # it has moved already
                (folder / name).parent.mkdir(exist_ok=True)
                (whole / name).replace(folder / name)
        report.replace(folder / REPORT)
    _remove(whole)


def _remove(folder: Path) -> None:
    """Remove a folder for unfinished results, its mark at the last: a run that is killed meanwhile leaves it marked.

    Raises:
        OutputError: it is not ours.
    """
    if not os.path.lexists(folder):
        return
    if not _is_ours(folder):
        raise OutputError(
            f"{folder} is not what an unfinished edit left there, and would be removed; move it away, or set another "
            "output.dir"
        )
    for path in set(folder.iterdir()) - {folder / MARK}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / MARK).unlink(missing_ok=True)
    folder.rmdir()


def _is_ours(folder: Path) -> bool:
    """Whether a folder has our mark; one with nothing in it was left before or after that."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / MARK).exists() or not any(folder.iterdir())


def _delete(path: Path) -> None:
    path.unlink()
    with suppress(OSError):  # there is something else in its folder
        path.parent.rmdir()


def _names(folder: Path) -> list[str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    return [str(path.relative_to(folder)) for path in paths]


def _checksum_or_none(path: Path) -> str | None:
    with suppress(OSError):
        return checksum(path)
    return None
