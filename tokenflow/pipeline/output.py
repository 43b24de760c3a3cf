"""The result folder of an edit: file names, a check of the encoding, and writers of videos, images and reports."""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tokenflow.config import Config, Output
from tokenflow.diffusion.latents import Frames
from tokenflow.errors import EncodingError, OutputError, TokenflowWarning
from tokenflow.events import notice
from tokenflow.pipeline.frames import EditedFrame
from tokenflow.report import contact_sheet, marked, sheet_frames, side_by_side, write_page
from tokenflow.store.files import output_errors, write_atomically, write_json, write_text
from tokenflow.store.results import FILES, REMEDY, REPORT, delete_results, file_digests, replace_atomically
from tokenflow.video import (
    ANIMATIONS,
    ResizeMode,
    Sound,
    Video,
    VideoWriter,
    clip_files,
    crop_like,
    default_codec,
    holds,
    holds_alpha,
    parse_colour,
    restore,
    uncomposite,
)

CONTACT_SHEET = "contact_sheet.png"
CONFIG = "config.yaml"
PAGE = "report.html"
PNGS = "frames"
SEEDS = "seeds.png"
TRIAL = "trial.png"
SIGNATURE = "Software", "tokenflow"
"""A text in the PNGs that may be replaced without being listed in report.json: `SEEDS` and `TRIAL`."""

_CODECS = get_args(get_args(Output.model_fields["codec"].annotation)[0])
_CONTAINERS = get_args(Output.model_fields["container"].annotation)
_NAMES = re.compile(
    rf"(edited|comparison|region)\.({'|'.join(_CONTAINERS)})|{PNGS}/frame_[0-9]+\.png|"
    + "|".join(map(re.escape, (CONTACT_SHEET, CONFIG, PAGE)))
)
"""File names of any edit, apart from report.json, which lists them."""


def edited_name(output: Output) -> str:
    """The file name of the edited video."""
    return f"edited.{output.container}"


def comparison_name(output: Output) -> str:
    """The file name of the video of source and edit side by side, which a page plays."""
    return f"comparison.{'mp4' if output.container in ANIMATIONS else output.container}"


def region_name(output: Output) -> str:
    """The file name of the video that is white where the edit could change something."""
    return f"region.{'mp4' if output.container in ANIMATIONS else output.container}"


def open_output(config: Config) -> AbstractContextManager[Path]:
    """A folder to write the results of an edit into, which move to `output.dir` once all are there (store/results.py).

    Raises:
        OutputError: nothing can be written there, or the clip, its mask, or files of the user's would be lost.
    """
    output = config.output
    names = [edited_name(output), comparison_name(output), region_name(output), CONTACT_SHEET, CONFIG, REPORT, PAGE]
    images = [f"{PNGS}/frame_[0-9]*.png"] if output.pngs else []
    return replace_atomically(output.dir, [*names, *images], _sources(config), _NAMES)


def delete_result(folder: Path) -> None:
    """Delete what an edit wrote to its output folder, and the folder if nothing else is in it.

    Files that were changed since, and those of the user's, stay.

    Raises:
        OutputError: a file cannot be deleted, or a run is writing to the folder.
    """
    delete_results(folder, _NAMES)


def sheet_path(config: Config, name: str) -> Path:
    """Where a sheet that is written apart from the result goes.

    Args:
        config: of the clip and its edit.
        name: `SEEDS` or `TRIAL`.

    Raises:
        OutputError: it would replace a file that is not tokenflow's, or be added to the clip or its mask.
    """
    path = config.output.dir / name
    if path.parent.resolve() in [source.resolve() for source in _sources(config)]:
        raise OutputError(f"{path} would be added to the clip or its mask; choose another output.dir")
    if os.path.lexists(path) and not _is_signed(path):
        raise OutputError(
            f"{path} was not written by tokenflow and would be overwritten; move it or choose another output.dir"
        )
    return path


def write_sheet(path: Path, rows: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write rows of images (H W 3 uint8 each, all of one size), each under its label, where `sheet_path` said.

    Raises:
        OutputError: it cannot be written.
    """
    signed = PngInfo()
    signed.add_text(*SIGNATURE)
    with write_atomically(path, REMEDY) as temporary, output_errors(path, REMEDY):
        contact_sheet(rows).save(temporary, "PNG", pnginfo=signed)


def _is_signed(path: Path) -> bool:
    name, value = SIGNATURE
    with suppress(OSError, ValueError, SyntaxError), Image.open(path) as image:
        return bool(image.info.get(name) == value)
    return False


def _sources(config: Config) -> list[Path]:
    """What must stay: the files that are read, and the folders that hold nothing but their images."""
    sources = []
    for path in config.inputs:
        files = clip_files(path)
        sources += files if path.is_file() else [*files, *{file.parent for file in files}]
    return sources


def check_encoding(output: Output, clip: Video, size: tuple[int, int], folder: Path) -> None:
    """Write two frames as the edit will be written, so that an impossible encoding is known before the work.

    Its sound is tried, too; notices about it are given when it is written.

    Args:
        output: in which form.
        clip: the source.
        size: width and height in pixels of the frames that will be written.
        folder: where to.

    Raises:
        OutputError: codec, quality, size, rate and container do not go together.
        ClipError, ClipNotFoundError: the clip cannot be read.
    """
    width, height = size
    path = folder / edited_name(output)
    part = clip.part
    start = Fraction(part.start) if part else Fraction(0)
    sound = None if clip.sound_file is None else Sound(clip.sound_file, start)
    if sound and output.container in ANIMATIONS and output.sound != "none":
        notice(f"output.container is {output.container}, which holds no sound; that of the clip is left out")
    clock: dict[str, Any] = {"times": [Fraction(0), 1 / clip.rate], "end": 2 / clip.rate}
    try:
        with (
            warnings.catch_warnings(action="ignore", category=TokenflowWarning),
            _writer(path, output, width, height, sound, alpha=_keeps_alpha(output, clip), **clock) as video,
        ):
            for _ in clock["times"]:
                video.write(np.zeros((height, width, 3), np.uint8))
    except EncodingError:
        _refuse_mismatch(output)
        _refuse_frames(output, clip, width, height)
        raise
    path.unlink()


def _keeps_alpha(output: Output, clip: Video) -> bool:
    """Whether the edited video gets the transparency of the clip."""
    return clip.has_alpha and holds_alpha(output.container, output.codec)


def written_size(clip: Video, working: tuple[int, int], resize: ResizeMode) -> tuple[int, int]:
    """Width and height of edited frames at the source's scale: the source's, but for `fill`, which crops it."""
    width, height = working
    rows, columns = restore(np.zeros((height, width, 3), np.uint8), *clip.size, resize).shape[:2]
    return columns, rows


def _refuse_mismatch(output: Output) -> None:
    """Say what goes together, where codec and container do not."""
    container, codec = output.container, output.codec
    if holds(container, codec):
        return
    if container in ANIMATIONS:
        raise OutputError(f"output.container is {container}, which has a codec of its own; leave output.codec out")
    codecs = [each for each in _CODECS if holds(container, each)]
    containers = [each for each in _CONTAINERS if holds(each, codec)]
    raise OutputError(
        f"output.container is {container}, which does not hold output.codec {codec}; set output.codec to one of "
        f"{', '.join(codecs)}, or output.container to one of {', '.join(containers)}"
    )


def _refuse_frames(output: Output, clip: Video, width: int, height: int) -> None:
    """Say which codecs take frames of this size and rate, where the chosen one does not."""
    container, codec = output.container, output.codec
    form = (width, height, clip.rate)
    if holds(container, codec, *form) or container in ANIMATIONS:
        return
    alike = ", ".join(each for each in _CODECS if holds(container, each, *form))
    others = ", ".join(f"{each} in {other}" for each in _CODECS for other in _CONTAINERS if holds(other, each, *form))
    fitting = f"one of {alike}" if alike else f"one that does, with output.container: {others}"
    name = "the clip" if clip.part is None else clip.part.path
    raise EncodingError(
        f"{name} has frames of {width}×{height} at {float(clip.rate):g} per second, which "
        f"output.codec {codec or default_codec(container)} does not take; set output.codec to {fitting}"
    )


def _writer(path: Path, output: Output, width: int, height: int, sound: Sound | None, **form: Any) -> VideoWriter:
    """A video in the form that the settings ask for; `form` has its times, and whether it is transparent."""
    if sound is not None:
        form |= {"audio_from": sound.path, "audio_start": sound.start, "audio_mode": output.sound}
    return VideoWriter(path, width=width, height=height, codec=output.codec, quality=output.quality, **form)


def write_reports(folder: Path, config: Config, content: dict[str, Any]) -> dict[str, Any]:
    """config.yaml, report.html with the videos and images that are in the folder, and report.json.

    Returns:
        The content of report.json: what was given, and a list of all other files.
    """
    output = config.output
    write_text(folder / CONFIG, config.to_yaml(), REMEDY)
    if output.page:
        comparison = folder / comparison_name(output) if output.comparison else None
        sheet = folder / CONTACT_SHEET if output.contact_sheet else None
        with output_errors(folder, REMEDY):
            write_page(folder / PAGE, content, comparison, sheet)
    content = content | {FILES: file_digests(folder)}
    write_json(folder / REPORT, content, REMEDY)
    return content


class ResultWriter:
    """Writes edited frames as they come: the edited video, the comparison, PNGs, and the frames of the contact sheet.

    Args:
        folder: where to.
        output: in which form.
        video: the source at full size.
        frames: the source at the working size, f H W 3 uint8.
        times: seconds at which each frame is shown, on the clock of the clip.
        end: seconds at which the last frame ends.
        resize: how frames were brought to the working size.
        labels: of the contact sheet's rows: what the source and the edit show.
    """

    def __init__(
        self,
        folder: Path,
        output: Output,
        video: Video,
        frames: Frames,
        times: Sequence[Fraction],
        end: Fraction,
        resize: ResizeMode,
        labels: tuple[str, str],
    ) -> None:
        self._folder = folder
        self._output = output
        self._video = video
        self._frames = frames
        self._clock = {"times": times, "end": end}
        self._resize = resize
        self._labels = labels
        self._shown = sheet_frames(len(frames)) if output.contact_sheet else []
        self._sheet: list[np.ndarray] = []
        self._marked: list[np.ndarray] = []
        self._alphas = iter(video) if _keeps_alpha(output, video) else None
        self._count = 0
        self._open = ExitStack()
        self._comparison: VideoWriter | None = None
        self._region: VideoWriter | None = None
        if output.pngs:
            with output_errors(folder, REMEDY):
                (folder / PNGS).mkdir()

    def __enter__(self) -> Self:
        output = self._output
        with ExitStack() as opening:  # closes the first writer if the second cannot be opened
            height, width = self._restore(self._frames[0]).shape[:2]
            path = self._folder / edited_name(output)
            sound, alpha = self._video.sound, self._alphas is not None
            writer = _writer(path, output, width, height, sound, alpha=alpha, **self._clock)
            self._edited = opening.enter_context(writer)
            if output.comparison:
                height, width = self._frames.shape[1:3]
                path = self._folder / comparison_name(output)
                self._comparison = opening.enter_context(_writer(path, output, 2 * width, height, None, **self._clock))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if error is None and self._shown:
            source = [self._frames[index] for index in self._shown]
            rows = dict(zip(self._labels, (source, self._sheet), strict=True))
            if self._marked:
                rows["what the edit may change"] = self._marked
            with output_errors(self._folder, REMEDY):
                contact_sheet(rows).save(self._folder / CONTACT_SHEET)

    def write(self, frame: EditedFrame) -> None:
        """The next edited frame."""
        image = frame.decoded
        self._write_edited(frame.image)
        if self._comparison is not None:
            self._comparison.write(side_by_side(self._frames[self._count], image))
        if self._output.pngs:
            with output_errors(self._folder, REMEDY):
                Image.fromarray(frame.image).save(self._folder / PNGS / f"frame_{self._count:05d}.png")
        if frame.mask is not None:
            self._write_region(frame.mask)
        if self._count in self._shown:
            self._sheet.append(image)
            if frame.decoded_mask is not None:
                self._marked.append(marked(self._frames[self._count], frame.decoded_mask))
        self._count += 1

    def _write_region(self, mask: np.ndarray) -> None:
        """Write the region of a frame, H W uint8."""
        if self._region is None:
            height, width = mask.shape
            path = self._folder / region_name(self._output)
            self._region = self._open.enter_context(_writer(path, self._output, width, height, None, **self._clock))
        self._region.write(np.repeat(mask[..., None], 3, axis=2))

    def _write_edited(self, image: np.ndarray) -> None:
        """Write an edited frame at full size, with the transparency of its source if the format holds it."""
        alpha = None if self._alphas is None else next(self._alphas).alpha
        if alpha is not None:
            alpha = crop_like(alpha, image)
            image = uncomposite(image, alpha, parse_colour(self._video.background))
        self._edited.write(image, alpha)

    def _restore(self, image: np.ndarray) -> np.ndarray:
        return restore(image, *self._video.size, self._resize)
