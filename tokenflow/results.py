"""What an edit leaves on disk: two videos, a contact sheet, pictures on wish; whole, or not there. Knows no model."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from tokenflow.config import Config
from tokenflow.errors import OutputError, TokenflowError
from tokenflow.report import contact_sheet, sheet_frames, side_by_side
from tokenflow.video import VideoWriter, probe, restore

CONTACT_SHEET = "contact_sheet.png"
CONFIG = "config.yaml"
REPORT = "report.json"
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
        OutputError: nothing can be written there. Entered before the work, it says so before the work.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        folder.mkdir(exist_ok=True)
        yield temporary
        shutil.rmtree(folder / PNGS, ignore_errors=True)
        for file in temporary.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        if isinstance(error, TokenflowError):  # a missing clip or model is a FileNotFoundError, and no matter of output
            raise
        raise OutputError(f"cannot write to {folder} ({error.strerror or error}); set output.dir") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


class PictureWriter:
    """Writes edited frames as they come: the edited video, the comparison, and the frames of the contact sheet.

    Args:
        folder: where to.
        config: of the edit.
        source: f H W 3 uint8, the source's frames at the model's size.
        times: seconds of each frame in the clip.
    """

    def __init__(self, folder: Path, config: Config, source: np.ndarray, times: Sequence[Fraction]) -> None:
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
        height, width = self._restored(self._source[0]).shape[:2]
        self._edited = self._open.enter_context(
            self._video(edited_name(self._config), width, height, audio_from=self._config.clip.path)
        )
        height, width = self._source.shape[1:3]
        self._comparison = self._open.enter_context(self._video(comparison_name(self._config), 2 * width, height))
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

    def _video(self, name: str, width: int, height: int, audio_from: Path | None = None) -> VideoWriter:
        output = self._config.output
        return VideoWriter(
            self._folder / name,
            width=width,
            height=height,
            times=[time - self._times[0] for time in self._times],
            audio_from=audio_from,
            audio_start=self._times[0],
            codec=output.codec,
            quality=output.quality,
        )
