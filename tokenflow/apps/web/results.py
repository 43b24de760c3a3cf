"""Finished edits on this machine: list them, read their frames beside the source's, list their files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenflow.apps.web.imports import importing
from tokenflow.config import Config, load_config

if TYPE_CHECKING:
    import numpy as np

REPORT, CONFIG = "report.json", "config.yaml"


@dataclass(frozen=True)
class Result:
    """A finished edit.

    Attributes:
        folder: its output folder.
        report: the content of report.json.
    """

    folder: Path
    report: dict[str, Any]

    @property
    def title(self) -> str:
        """What it shows, and how it was made."""
        edit = self.report["settings"]["edit"]
        return f"{edit['prompt'] or self.report['settings']['clip']['prompt']} ({edit['mode']}, seed {edit['seed']})"

    @property
    def video(self) -> Path:
        """The edited clip."""
        return self.folder / f"edited.{self.report['settings']['output']['container']}"

    @property
    def comparison(self) -> Path | None:
        """Source and edit side by side in one video, and so in step; None if it was switched off."""
        path = self.video.with_stem("comparison")
        return path if path.exists() else None

    @property
    def region(self) -> Path | None:
        """What the edit could change, white in a video; None if that was everything."""
        paths = (self.folder / name for name in self.report["files"] if Path(name).stem == "region")
        return next(filter(Path.exists, paths), None)

    @property
    def contact_sheet(self) -> Path | None:
        """Frames of both in one image; None if it was switched off."""
        path = self.folder / "contact_sheet.png"
        return path if path.exists() else None

    @property
    def files(self) -> list[Path]:
        """All its files, the report and the video first."""
        names = [*self.report["files"], REPORT]
        first = [name for name in ("report.html", self.video.name) if name in names]
        paths = [self.folder / name for name in dict.fromkeys([*first, *names])]
        return [path for path in paths if path.exists()]


def find_results(outputs: Path) -> list[Result]:
    """The finished edits in a folder of result folders, newest first."""
    reports = sorted(outputs.glob(f"*/{REPORT}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return list(_readable(reports))


def read_result(folder: Path) -> Result | None:
    """The finished edit in a folder; None if it has none."""
    return next(_readable([folder / REPORT]), None)


def _readable(reports: list[Path]) -> Iterator[Result]:
    for path in reports:
        try:
            report = json.loads(path.read_bytes())
            result = Result(path.parent, report)
            complete = result.video.exists() and bool(result.title) and bool(report["files"])
        except (OSError, ValueError, TypeError, LookupError):  # of another program, or being replaced now
            continue
        if complete:
            yield result


def config_of(result: Result) -> Config:
    """The settings of a result.

    Raises:
        ConfigError: its config.yaml cannot be read.
    """
    return load_config(result.folder / CONFIG, environment={})


def frame_pair(result: Result, index: int) -> "tuple[np.ndarray, np.ndarray] | None":
    """A frame of the source and the same frame of the edit, H W 3 uint8 both; None if the source has gone.

    Raises:
        ClipError: one cannot be read.
    """
    with importing():
        from tokenflow.video import resize

    clip = config_of(result).clip
    if not clip.path.exists():
        return None
    edited = _frame(result.video, 0.0, None, 1, index)
    source = _frame(clip.path, clip.start, clip.frames, clip.every, index)
    height, width = edited.shape[:2]
    return (source if source.shape == edited.shape else resize(source, width, height, clip.resize)), edited


def _frame(path: Path, start: float, frames: int | None, every: int, index: int) -> "np.ndarray":
    with importing():
        from tokenflow.video import read_frames

    times = _times(path, path.stat().st_mtime_ns, start, frames, every)
    return next(read_frames(path, start=float(times[min(index, len(times) - 1)]), frames=1)).image


@lru_cache(maxsize=32)
def _times(path: Path, changed: int, start: float, frames: int | None, every: int) -> tuple[Fraction, ...]:
    """When each frame of a part of a clip is shown; `changed` tells a file from an earlier one of its name."""
    with importing():
        from tokenflow.video import Video

    return Video.read(path, start=start, frames=frames, every=every).times
