"""Which stored inversions are still there: ComfyUI keeps the result of a node, and the user may delete its files."""

from pathlib import Path


class Made:
    """The folders of inversions that were made or opened since ComfyUI started."""

    def __init__(self) -> None:
        self._folders: set[Path] = set()
        self._losses = 0

    def add(self, folder: Path) -> None:
        """Remember one."""
        self._folders.add(folder)

    def losses(self) -> int:
        """How often some have been found deleted: it changes once for each time, so that they are made again."""
        gone = {folder for folder in self._folders if not folder.is_dir()}
        self._folders -= gone
        self._losses += bool(gone)
        return self._losses


MADE = Made()
