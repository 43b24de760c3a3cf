"""Downloads from the Hub that report the bytes which have come to the listener of the current call."""

import glob
import io
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm

from tokenflow.errors import Cancelled
from tokenflow.events import current_listener, progress

INTERVAL = 0.2
"""Seconds between two reports."""


class Received:
    """What has come of a download, written by its threads and read by the thread that waits for it.

    Attributes:
        bytes: that have come.
        is_stopped: whether to end the download.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.is_stopped = False

    def bar_class(self) -> type[tqdm]:
        """For the Hub's library: its bars draw nothing and count bytes; there are others, which count files."""
        return type("Bar", (_Bar,), {"received": self})


class _Bar(tqdm):
    received: Received

    def __init__(self, *arguments: Any, name: str | None = None, **options: Any) -> None:
        # The library names its own bars, which those of tqdm do not allow.
        super().__init__(*arguments, **options | {"file": io.StringIO(), "disable": False})

    def update(self, n: float | None = 1) -> bool | None:
        """Count.

        Raises:
            Cancelled: the download is to end.
        """
        if self.received.is_stopped:
            raise Cancelled("cancelled")
        shown = super().update(n)
        if self.unit == "B":  # several bars may count the same bytes: as they come, and as they are written
            self.received.bytes = max(self.received.bytes, int(self.n))
        return shown


def download(name: str, commit: str, files: Collection[str]) -> None:
    """Download files of a repository at a commit to the cache of the Hub.

    The listener is called with `Progress` of the stage `download`, in bytes; an exception that it raises stops the
    download and is raised here. Without a listener the Hub's library draws its own bars.

    Raises:
        OSError: the Hub does not deliver them; and the others of `reasons.UNREACHABLE`.
    """
    patterns = [glob.escape(file) for file in files]
    listener = current_listener()
    if listener is None:
        snapshot_download(name, revision=commit, allow_patterns=patterns)
        return
    received, total = Received(), _size(name, commit, files)
    with (
        ThreadPoolExecutor(1, "download") as thread,
        progress("download", total, listener, label=_label(name, files)) as advance,
    ):
        get = partial(snapshot_download, allow_patterns=patterns, tqdm_class=received.bar_class())
        ended: Future[Any] = thread.submit(get, name, revision=commit)
        reported = 0
        try:
            while not ended.done():
                wait([ended], INTERVAL)
                reached = min(received.bytes, total)
                advance(reached - reported)  # by nothing, too, so that the listener can stop it
                reported = reached
        finally:
            received.is_stopped = not ended.done()
        ended.result()
        advance(total - reported)


def _size(name: str, commit: str, files: Collection[str]) -> int:
    """Bytes of the files."""
    listed = HfApi().list_repo_tree(name, recursive=True, revision=commit)
    return sum(each.size for each in listed if isinstance(each, RepoFile) and each.path in files)


def _label(name: str, files: Collection[str]) -> str:
    first, *others = sorted(files)
    return f"{name}: {first}" + (f" and {len(others)} more" if others else "")
