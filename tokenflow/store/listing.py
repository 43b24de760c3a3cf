"""The inversions in a store: what each was made from, its size and age; and how one is removed."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tokenflow.errors import OutputError
from tokenflow.store.files import LOCK, locked, output_errors
from tokenflow.store.inversions import FORMAT, MANIFEST
from tokenflow.store.kept_pairs import SUFFIX

REMEDY = "check its permissions"


@dataclass(frozen=True)
class ListedInversion:
    """A folder of a store.

    Attributes:
        folder: where it is.
        prompt: what its clip shows; None where its manifest is damaged.
        steps: of its inversion; None likewise.
        complete: whether every level is there, in the format that this version reads.
        bytes: of all its files.
        flow_bytes: of those among them that edits left: flow, which an edit without it finds again.
        written: when the last of them was.
    """

    folder: Path
    prompt: str | None
    steps: int | None
    complete: bool
    bytes: int
    flow_bytes: int
    written: datetime

    def is_older_than(self, age: timedelta) -> bool:
        """Whether its last file was written longer ago."""
        return datetime.now(UTC) - self.written > age


def listed_inversions(store: Path) -> Iterator[ListedInversion]:
    """Every inversion in a store, complete or not, by name. Folders of other things are left out."""
    for manifest in sorted(store.glob(f"*/{MANIFEST}")):
        with suppress(FileNotFoundError):  # removed meanwhile
            yield _listed(manifest)


def remove_inversion(inversion: ListedInversion) -> None:
    """Delete the folder of an inversion.

    Raises:
        OutputError: another run is making it, or it cannot be deleted.
    """
    folder = inversion.folder
    with locked(folder, _refusal(folder)), output_errors(folder, REMEDY):
        for path in folder.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    with suppress(OSError):  # another run has begun to make it again
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


def remove_flow(inversion: ListedInversion) -> None:
    """Delete the flow that edits left with an inversion.

    Raises:
        OutputError: another run is writing there, or it cannot be deleted.
    """
    folder = inversion.folder
    with locked(folder, _refusal(folder)), output_errors(folder, REMEDY):
        for path in folder.glob(f"*{SUFFIX}"):
            path.unlink()


def _refusal(folder: Path) -> Callable[[], None]:
    def refuse() -> None:
        raise OutputError(f"{folder} is being written by another run; it was left as it is")

    return refuse


def _listed(manifest: Path) -> ListedInversion:
    content = _read(manifest)
    made_from = content.get("made_from", {})
    files = [path.stat() for path in manifest.parent.rglob("*") if path.is_file()]
    return ListedInversion(
        folder=manifest.parent,
        prompt=made_from.get("prompt"),
        steps=made_from.get("steps"),
        complete=content.get("format") == FORMAT and content.get("complete") is True,
        bytes=sum(each.st_size for each in files),
        flow_bytes=sum(path.stat().st_size for path in manifest.parent.glob(f"*{SUFFIX}")),
        written=datetime.fromtimestamp(max(each.st_mtime for each in files), UTC),
    )


def _read(manifest: Path) -> dict[str, Any]:
    """The manifest; empty if it is damaged."""
    with suppress(ValueError):
        content = json.loads(manifest.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("made_from"), dict):
            return content
    return {}
