"""Results as an edit writes them, also by a process that dies. Imports little, since such processes are spawned."""

import json
import os
import re
from itertools import count
from pathlib import Path

from tokenflow.store.results import FILES, REPORT, file_digests, replace_atomically

PATTERNS = ["*.mp4", "*.mkv", "config.yaml", "frames/frame_*.png", REPORT]
NAMES = re.compile(r"edited\.(mp4|mkv)|config\.yaml|frames/frame_[0-9]+\.png")
KILLED = 9
"""The exit status of a process that has died."""


def write(folder: Path, files: dict[str, str]) -> None:
    """Leave results as an edit does."""
    with replace_atomically(folder, PATTERNS, [], NAMES) as place:
        for name, content in files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(content)
        (place / REPORT).write_text(json.dumps({FILES: file_digests(place)}))


def write_and_die(folder: Path, files: dict[str, str], step: int) -> None:
    """Leave results, but die without any clean-up before the n-th change to a folder."""
    steps = count()

    def counted(work):  # type: ignore[no-untyped-def]
        def stepping(*arguments, **options):  # type: ignore[no-untyped-def]
            if next(steps) == step:
                os._exit(KILLED)
            return work(*arguments, **options)

        return stepping

    for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    write(folder, files)
