"""What an edit leaves on disk: videos, pictures, reports; whole, or not there. Knows no model."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from tokenflow.config import Config
from tokenflow.errors import OutputError, TokenflowError
from tokenflow.locking import locked
from tokenflow.report import contact_sheet, sheet_frames, side_by_side, write_json, write_page
from tokenflow.rows import Frames
from tokenflow.video import VideoWriter, probe, restore

CONTACT_SHEET = "contact_sheet.png"
CONFIG = "config.yaml"
REPORT = "report.json"
PAGE = "report.html"
PNGS = "frames"


def edited_name(config: Config) -> str:
    """The file name of the edited video."""
    return f"edited.{config.output.container}"


def comparison_name(config: Config) -> str:
    """The file name of the video of source and edit side by side."""
    return f"comparison.{config.output.container}"


@contextmanager
def whole_or_not(folder: Path) -> Iterator[Path]:
    """A folder to write results into, which move to `folder` once all are written; else nothing is left of them.

    Raises:
        OutputError: nothing can be written there, or another run is at it. Entered before the work, it says so
            before the work.
    """
    temporary = folder / ".partial"
    try:
        with locked(folder, partial(_refuse, folder)):
            try:
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


def _refuse(folder: Path) -> None:
    raise OutputError(f"another run is writing to {folder}; wait until it is done, or set another output.dir")


def _move_all(temporary: Path, folder: Path) -> None:
    """Put new results in the place of earlier ones; the report goes first and comes last, and vouches for the rest."""
    (folder / REPORT).unlink(missing_ok=True)
    shutil.rmtree(folder / PNGS, ignore_errors=True)
    for file in sorted(temporary.iterdir(), key=lambda file: file.name == REPORT):
        file.replace(folder / file.name)


def try_form(config: Config, folder: Path) -> None:
    """Write one picture as the edit will be written, so that a form that cannot be is known before the work.

    Raises:
        OutputError: codec, quality, size and container do not go together.
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    info = probe(config.clip.path)
    black = np.zeros((info.height, info.width, 3), np.uint8)
    path = folder / edited_name(config)
    with _video(path, config, info.width, info.height, [Fraction(0)]) as video:
        video.write(black)
    path.unlink()


def _video(path: Path, config: Config, width: int, height: int, times: Sequence[Fraction], **sound: Any) -> VideoWriter:
    """A video in the form that the configuration asks for, its first frame at zero."""
    return VideoWriter(
        path,
        width=width,
        height=height,
        times=[time - times[0] for time in times],
        codec=config.output.codec,
        quality=config.output.quality,
        **sound,
    )


def write_reports(folder: Path, config: Config, content: dict[str, Any]) -> None:
    """report.json, and report.html with the videos and pictures that are in the folder already."""
    write_json(folder / REPORT, content)
    write_page(folder / PAGE, content, folder / comparison_name(config), folder / CONTACT_SHEET)


class PictureWriter:
    """Writes edited frames as they come: the edited video, the comparison, and the frames of the contact sheet.

    Args:
        folder: where to.
        config: of the edit.
        source: f H W 3 uint8, the source's frames at the model's size.
        times: seconds of each frame in the clip.
    """

    def __init__(self, folder: Path, config: Config, source: Frames, times: Sequence[Fraction]) -> None:
        self._folder = folder
        self._config = config
        self._source = source
        self._times = times
        self._shown = sheet_frames(len(source))
        self._sheet: list[np.ndarray] = []
        self._count = 0
        self._open = ExitStack()
        info = probe(config.clip.path)
        self._size = info.width, info.height
        if config.output.pngs:
            (folder / PNGS).mkdir()

    def __enter__(self) -> Self:
        config, times = self._config, self._times
        height, width = self._restored(self._source[0]).shape[:2]
        sound = {"audio_from": config.clip.path, "audio_start": times[0]}
        edited = _video(self._folder / edited_name(config), config, width, height, times, **sound)
        self._edited = self._open.enter_context(edited)
        height, width = self._source.shape[1:3]
        comparison = _video(self._folder / comparison_name(config), config, 2 * width, height, times)
        self._comparison = self._open.enter_context(comparison)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if error is None:
            source = [self._source[frame] for frame in self._shown]
            rows = {self._config.clip.prompt: source, self._config.edit.prompt: self._sheet}
            contact_sheet(rows).save(self._folder / CONTACT_SHEET)

    def write(self, picture: np.ndarray) -> None:
        """The next edited frame, H W 3 uint8 at the model's size."""
        restored = self._restored(picture)
        self._edited.write(restored)
        self._comparison.write(side_by_side(self._source[self._count], picture))
        if self._config.output.pngs:
            Image.fromarray(restored).save(self._folder / PNGS / f"frame_{self._count:05d}.png")
        if self._count in self._shown:
            self._sheet.append(picture)
        self._count += 1

    def _restored(self, picture: np.ndarray) -> np.ndarray:
        return restore(picture, *self._size, self._config.clip.resize)
