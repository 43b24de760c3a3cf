"""What an edit leaves on disk: videos, pictures, reports; and how. Knows no model."""

import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
from PIL import Image

from tokenflow.config import Config, Output
from tokenflow.diffusion.latents import Frames
from tokenflow.errors import EncodingError, OutputError, TokenflowWarning
from tokenflow.report import contact_sheet, sheet_frames, side_by_side, write_page
from tokenflow.store.files import output_errors, write_json, write_text
from tokenflow.store.results import FILES, REMEDY, REPORT, file_digests, replace_atomically
from tokenflow.video import VideoWriter, clip_files, holds, probe, restore

CONTACT_SHEET = "contact_sheet.png"
CONFIG = "config.yaml"
PAGE = "report.html"
PNGS = "frames"

_CODECS = get_args(Output.model_fields["codec"].annotation)
_CONTAINERS = get_args(Output.model_fields["container"].annotation)
_NAMES = re.compile(
    rf"(edited|comparison)\.({'|'.join(_CONTAINERS)})|{PNGS}/frame_[0-9]+\.png|"
    + "|".join(map(re.escape, (CONTACT_SHEET, CONFIG, PAGE)))
)
"""What the files of any edit are called, report.json apart, which lists them."""


def edited_name(config: Config) -> str:
    """The file name of the edited video."""
    return f"edited.{config.output.container}"


def comparison_name(config: Config) -> str:
    """The file name of the video of source and edit side by side."""
    return f"comparison.{config.output.container}"


def place(config: Config) -> AbstractContextManager[Path]:
    """A folder for the results of an edit, which move to `output.dir` at the end (see `replace_atomically`).

    Raises:
        OutputError: nothing can be written there, or the clip, its mask, or files of the user's would be lost.
    """
    names = [edited_name(config), comparison_name(config), CONTACT_SHEET, CONFIG, REPORT, PAGE]
    pictures = [f"{PNGS}/frame_[0-9]*.png"] if config.output.pngs else []
    return replace_atomically(config.output.dir, [*names, *pictures], _sources(config), _NAMES)


def _sources(config: Config) -> list[Path]:
    """What must stay: the files of clip and mask, and the folders of which they are all the pictures."""
    sources = []
    for path in filter(None, (config.clip.path, config.metrics.mask)):
        files = clip_files(path)
        sources += files if path.is_file() else [*files, *{file.parent for file in files}]
    return sources


def check_encoding(config: Config, folder: Path) -> None:
    """Write one picture as the edit will be written, so that a form that cannot be is known before the work.

    Its sound is tried too, and what there is to warn of in it is said when it is written.

    Raises:
        OutputError: codec, quality, size, rate and container do not go together.
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    info = probe(config.clip.path)
    rate = info.rate / config.clip.every
    black = np.zeros((info.height, info.width, 3), np.uint8)
    path = folder / edited_name(config)
    sound = {"audio_from": config.clip.path, "audio_start": Fraction(config.clip.start)}
    try:
        with (
            warnings.catch_warnings(action="ignore", category=TokenflowWarning),
            _video(path, config, info.width, info.height, rate=rate, **sound) as video,
        ):
            video.write(black)
    except EncodingError:
        _refuse_mismatch(config)
        _refuse_pictures(config, info.width, info.height, rate)
        raise
    path.unlink()


def _refuse_mismatch(config: Config) -> None:
    """Say what goes together, where codec and container do not."""
    container, codec = config.output.container, config.output.codec
    if holds(container, codec):
        return
    codecs = [each for each in _CODECS if holds(container, each)]
    containers = [each for each in _CONTAINERS if holds(each, codec)]
    raise OutputError(
        f"output.container is {container}, which does not hold output.codec {codec}; set output.codec to one of "
        f"{', '.join(codecs)}, or output.container to one of {', '.join(containers)}"
    )


def _refuse_pictures(config: Config, width: int, height: int, rate: Fraction) -> None:
    """Say which codecs take pictures of such a size, so many a second, where the one that is asked for does not."""
    container, codec = config.output.container, config.output.codec
    form = (width, height, rate)
    if holds(container, codec, *form):
        return
    alike = ", ".join(each for each in _CODECS if holds(container, each, *form))
    others = ", ".join(f"{each} in {other}" for each in _CODECS for other in _CONTAINERS if holds(other, each, *form))
    fitting = f"one of {alike}" if alike else f"what takes them, with output.container: {others}"
    raise EncodingError(
        f"{config.clip.path} has pictures of {width}×{height}, {float(rate):g} a second, which output.codec {codec} "
        f"does not take; set output.codec to {fitting}"
    )


def _video(path: Path, config: Config, width: int, height: int, **more: Any) -> VideoWriter:
    """A video in the form that the configuration asks for; `more` has its times or its rate."""
    return VideoWriter(
        path,
        width=width,
        height=height,
        codec=config.output.codec,
        quality=config.output.quality,
        **more,
    )


def write_reports(folder: Path, config: Config, content: dict[str, Any]) -> dict[str, Any]:
    """config.yaml, report.html with the videos and pictures that are in the folder already, and report.json.

    Returns:
        The content of report.json: what was given, and a list of all other files.
    """
    write_text(folder / CONFIG, config.to_yaml(), REMEDY)
    with output_errors(folder, REMEDY):
        write_page(folder / PAGE, content, folder / comparison_name(config), folder / CONTACT_SHEET)
    content = content | {FILES: file_digests(folder)}
    write_json(folder / REPORT, content, REMEDY)
    return content


class PictureWriter:
    """Writes edited frames as they come: the edited video, the comparison, and the frames of the contact sheet.

    Args:
        folder: where to.
        config: of the edit.
        source: f H W 3 uint8, the source's frames at the model's size.
        times: seconds of each frame in the clip.
        end: seconds in the clip at which the last frame goes.
    """

    def __init__(self, folder: Path, config: Config, source: Frames, times: Sequence[Fraction], end: Fraction) -> None:
        self._folder = folder
        self._config = config
        self._source = source
        self._times = times
        self._end = end
        self._shown = sheet_frames(len(source))
        self._sheet: list[np.ndarray] = []
        self._count = 0
        self._open = ExitStack()
        info = probe(config.clip.path)
        self._size = info.width, info.height
        if config.output.pngs:
            with output_errors(folder, REMEDY):
                (folder / PNGS).mkdir()

    def __enter__(self) -> Self:
        config, times, end = self._config, self._times, self._end
        height, width = self._restored(self._source[0]).shape[:2]
        sound = {"audio_from": config.clip.path, "audio_start": times[0]}
        edited = _video(self._folder / edited_name(config), config, width, height, times=times, end=end, **sound)
        self._edited = self._open.enter_context(edited)
        height, width = self._source.shape[1:3]
        comparison = _video(self._folder / comparison_name(config), config, 2 * width, height, times=times, end=end)
        self._comparison = self._open.enter_context(comparison)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if error is None:
            source = [self._source[frame] for frame in self._shown]
            rows = {self._config.clip.prompt: source, self._config.edit.prompt: self._sheet}
            with output_errors(self._folder, REMEDY):
                contact_sheet(rows).save(self._folder / CONTACT_SHEET)

    def write(self, picture: np.ndarray) -> None:
        """The next edited frame, H W 3 uint8 at the model's size."""
        restored = self._restored(picture)
        self._edited.write(restored)
        self._comparison.write(side_by_side(self._source[self._count], picture))
        if self._config.output.pngs:
            with output_errors(self._folder, REMEDY):
                Image.fromarray(restored).save(self._folder / PNGS / f"frame_{self._count:05d}.png")
        if self._count in self._shown:
            self._sheet.append(picture)
        self._count += 1

    def _restored(self, picture: np.ndarray) -> np.ndarray:
        return restore(picture, *self._size, self._config.clip.resize)
