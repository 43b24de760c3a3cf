"""Atomically replace an earlier run's results without touching the user's files.

Results are written to a hidden folder in the output folder, and moved over one by one once they are complete. The next
run resumes an interrupted move. report.json lists the other files with their SHA-256: those may be replaced or deleted
as long as they are unchanged; every other file is the user's.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tokenflow.errors import OutputError
from tokenflow.store.files import LOCK, locked, output_errors, sha256

REPORT = "report.json"
FILES = "files"
"""The key of report.json that lists the other files, as `file_digests` gives them."""

UNFINISHED = ".tokenflow-partial"
"""The folder that results are written to. It is ours if there is `EARLIER`, which is created first and removed last."""

EARLIER = ".tokenflow-earlier.json"
"""Lists the files of the earlier results, report.json included, until they are replaced."""

COMPLETE = ".complete.json"
"""In the unfinished folder: the new report.json, so called once all results are written and until all are moved."""

REMEDY = "make room, or set output.dir to another place"


@contextmanager
def replace_atomically(
    folder: Path, patterns: Collection[str], sources: Collection[Path], names: re.Pattern[str]
) -> Iterator[Path]:
    """A folder to write results to, which replace those in `folder` when the block ends; if it raises, nothing is left.

    The block writes report.json, with the digests of all other files under `FILES`. Its errors pass unchanged.

    Args:
        folder: the output folder.
        patterns: for the names of these results, such as `frames/frame_*.png`.
        sources: files that must stay, and folders that must stay as they are.
        names: matches every name that any report may list.

    Raises:
        OutputError: before the block if `folder` cannot be written to, another run is writing to it, or files of the
            user's would be lost; after it if the results cannot be moved. Complete results are then moved by the next
            run.
    """
    unfinished = folder / UNFINISHED

    def refuse() -> None:
        raise OutputError(f"another run is writing to {folder}; wait until it is done, or choose another output.dir")

    with locked(folder, refuse, REMEDY):
        with output_errors(folder, REMEDY):
            _settle(folder, names)
            earlier = _earlier_files(folder, names)
            _refuse_to_lose(folder, patterns, sources, earlier)
        try:
            with output_errors(folder, REMEDY):
                (folder / EARLIER).write_text(json.dumps({FILES: earlier}), encoding="utf-8")
                unfinished.mkdir()
            yield unfinished
            with output_errors(folder, REMEDY):
                (unfinished / REPORT).replace(unfinished / COMPLETE)
        except BaseException:
            with suppress(OSError):
                _settle(folder, names)
            raise
        with output_errors(folder, REMEDY):
            _settle(folder, names)


def delete_results(folder: Path, names: re.Pattern[str]) -> None:
    """Delete the results in a folder, and the folder if nothing else is in it. Files that were changed since, and those
    of the user's, stay.

    Args:
        folder: the output folder.
        names: matches every name that any report may list.

    Raises:
        OutputError: a file cannot be deleted, or another run is writing to the folder.
    """

    def refuse() -> None:
        raise OutputError(f"another run is writing to {folder}; wait until it is done")

    with locked(folder, refuse), output_errors(folder):
        _settle(folder, names)
        for name in sorted(_earlier_files(folder, names), key=lambda name: name == REPORT):  # which lists the others
            (folder / name).unlink()
            with suppress(OSError):  # its folder has other files
                (folder / name).parent.rmdir()
        with suppress(OSError):  # on Windows it stays while it is open; and the folder may have other files
            if set(os.listdir(folder)) == {LOCK}:
                (folder / LOCK).unlink()
                folder.rmdir()


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder and its subfolders, by relative path; hidden files are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}


def report_digest(folder: Path) -> str | None:
    """SHA-256 of the report.json in a folder; None if there is none."""
    return _digest(folder / REPORT)


def is_complete(folder: Path) -> bool:
    """Whether a folder has a report.json and every file that it lists. Contents are not compared."""
    try:
        return all((folder / name).is_file() for name in json.loads((folder / REPORT).read_bytes())[FILES])
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _settle(folder: Path, names: re.Pattern[str]) -> None:
    """Move results that are complete, and remove those that are not; every step may be the last before a kill."""
    unfinished, earlier = folder / UNFINISHED, folder / EARLIER
    if not earlier.exists():
        return
    if (unfinished / COMPLETE).exists():
        _move(unfinished, folder, _listed(earlier, names), _listed(unfinished / COMPLETE, names))
    shutil.rmtree(unfinished, ignore_errors=True)
    if not unfinished.exists():  # on Windows it stays while a file in it is open
        earlier.unlink()


def _move(unfinished: Path, folder: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Replace old results. As long as files of both are mixed, there is no report.json."""
    ours = _unchanged(folder, old) | _unchanged(folder, new)
    _refuse_foreign({folder / name for name in {REPORT, *new} - ours})
    (folder / REPORT).unlink(missing_ok=True)
    for path in (folder / name for name in ours - {REPORT, *new}):
        path.unlink()
        with suppress(OSError):  # its folder has other files
            path.parent.rmdir()
    for name in new:
        if (unfinished / name).exists():  # else it has been moved already
            (folder / name).parent.mkdir(exist_ok=True)
            (unfinished / name).replace(folder / name)
    (unfinished / COMPLETE).replace(folder / REPORT)


def _refuse_to_lose(
    folder: Path, patterns: Collection[str], sources: Collection[Path], earlier: Mapping[str, str]
) -> None:
    ours = {folder / name for name in earlier}
    targets = {folder / UNFINISHED, *(folder / pattern for pattern in patterns)}
    targets |= {path for pattern in patterns for path in folder.glob(pattern)}
    parents = {path.parent for path in targets}
    kept = set(map(_entry, sources))
    for path in sorted({*filter(os.path.lexists, targets), *ours, *parents}):
        if _entry(path) in kept:
            raise OutputError(
                f"{path} belongs to the clip or its mask, and results in {folder} would overwrite, delete or "
                "extend it; choose another output.dir"
            )
    _refuse_foreign({*(targets - ours), *(path for path in parents if not path.is_dir())})


def _refuse_foreign(paths: Collection[Path]) -> None:
    for path in sorted(filter(os.path.lexists, paths)):
        raise OutputError(
            f"{path} was not written by tokenflow, or has been changed since, and would be overwritten; move it or "
            "choose another output.dir"
        )


def _entry(path: Path) -> Path:
    """An absolute path without links, except that a link to a file stays itself."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _earlier_files(folder: Path, names: re.Pattern[str]) -> dict[str, str]:
    """The unchanged files of the results in a folder with their SHA-256, report.json included."""
    listed = _listed(folder / REPORT, names)
    listed |= {REPORT: sha256(folder / REPORT)} if listed else {}
    return {name: listed[name] for name in _unchanged(folder, listed)}


def _listed(report: Path, names: re.Pattern[str]) -> dict[str, str]:
    """The files that a report lists, with their SHA-256; none if it lists nothing.

    Raises:
        OutputError: it lists a file that no edit writes.
    """
    try:
        listed = dict(json.loads(report.read_bytes())[FILES])
    except (OSError, ValueError, TypeError, LookupError):
        return {}
    for name in listed:
        if name != REPORT and not names.fullmatch(str(name)):
            raise OutputError(
                f"{report} was not written by tokenflow: it lists {name!r}, which would be replaced or deleted; move "
                "it or choose another output.dir"
            )
    return listed


def _unchanged(folder: Path, listed: Mapping[str, str]) -> set[str]:
    return {name for name, digest in listed.items() if _digest(folder / name) == digest}


def _digest(path: Path) -> str | None:
    with suppress(OSError):
        return sha256(path)
    return None
