"""Takes from Linux what Windows lacks, in every process that has this folder on its path (see test_portability.py)."""

import builtins
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

MISSING = ("fcntl", "grp", "pwd", "resource")
"""Modules that this project cannot import; libraries can, since each has its own way with Windows."""

import_anything = builtins.__import__


def import_from_windows(name: str, globals: dict[str, Any] | None = None, *arguments: Any, **options: Any) -> Any:
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if name in MISSING and importer in ("__main__", "tests", "tokenflow"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return import_anything(name, globals, *arguments, **options)


builtins.__import__ = import_from_windows

for function in ("fork", "forkpty", "pread", "preadv", "pwrite", "pwritev"):
    delattr(os, function)

multiprocessing.set_start_method("spawn")
tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[assignment]
shutil._use_fd_functions = False  # type: ignore[attr-defined]


def is_open(path: str) -> bool:
    """Whether this process has a file open, or mapped into memory, at an absolute path or below it."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        files = ["/" + line.rstrip().partition("/")[2] for line in maps]
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            files.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return any(f"{file}/".startswith(f"{path}/") for file in files)


def refuse_open_files(work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    def checked(*paths: str, **options: Any) -> Any:
        for path in paths:
            if is_open(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))):
                raise PermissionError(13, "The process cannot access the file because it is being used", str(path))
        return work(*paths, **options)

    return checked


for function in ("remove", "rename", "replace", "unlink"):
    setattr(os, function, refuse_open_files(getattr(os, function)))
