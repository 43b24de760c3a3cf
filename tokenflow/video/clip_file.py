"""A clip at a path: what it is, its files, and the decoder that fits."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path

from tokenflow.errors import ClipError, ClipNotFoundError, TokenflowError, looked_in
from tokenflow.video.colour import Converter, has_alpha
from tokenflow.video.container import audio_stream, open_input
from tokenflow.video.decoder import DEFAULT_RATE, Decoder
from tokenflow.video.decoding import open_video
from tokenflow.video.images.animation import open_animation
from tokenflow.video.images.files import IMAGE_SUFFIXES, find_images
from tokenflow.video.images.sequence import open_sequence
from tokenflow.video.resampling import exact_rate, resample


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip.

    Attributes:
        path: the clip.
        width, height: size in pixels as displayed: upright, with square pixels.
        rate: average frames per second.
        has_audio: whether the clip has audio.
        codec: name of the codec, such as `h264`.
        profile: profile of the codec, such as `High`; None if the file does not specify it.
        duration: seconds; None if the file does not specify it.
        has_alpha: whether pixels may be transparent.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    has_audio: bool
    codec: str
    profile: str | None
    duration: Fraction | None
    has_alpha: bool = False


def probe(path: str | PathLike[str], *, rate: float | None = None) -> ClipInfo:
    """Inspect a clip; this decodes its first frame.

    Args:
        path: the clip.
        rate: frames per second to read it at, as in `read_frames`.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: the clip cannot be read or contains no frames.
    """
    path = Path(path)
    decoder = open_clip(path, rate)
    with closing(decoder.decode(Fraction(0))) as frames:
        first = next(frames, None)
    if first is None:
        raise ClipError(f"{path} contains no frames; expected a video or an image")
    width, height = Converter(first.frame, decoder.pixel_aspect).size
    return ClipInfo(
        path=path,
        width=width,
        height=height,
        rate=decoder.rate,
        has_audio=decoder.has_audio,
        codec=decoder.codec,
        profile=decoder.profile,
        duration=decoder.duration,
        has_alpha=has_alpha(first.frame),
    )


def has_sound(path: str | PathLike[str]) -> bool:
    """Whether a clip or a file of sound has sound; no frame is decoded.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: what is there cannot be read.
    """
    path = Path(path)
    with _access_errors(path):
        if path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES:
            with open_input(path) as container:
                return audio_stream(container) is not None
    return open_clip(path, None).has_audio


def check_sound(path: str | PathLike[str]) -> None:
    """Make sure that a file has sound.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: it cannot be read or has no sound.
    """
    if not has_sound(path):
        raise ClipError(f"{path} has no sound; expected a file of sound, or a clip with some")


def clip_files(path: str | PathLike[str]) -> list[Path]:
    """The files of a clip, in order: the file itself, or the images of a sequence; empty if there is no clip.

    Raises:
        ClipError: `path` cannot be accessed.
    """
    path = Path(path)
    with _access_errors(path):
        return [path] if path.is_file() else find_images(path)


def open_clip(path: Path, rate: float | None) -> Decoder:
    """The decoder for what is at a path.

    Args:
        path: a video file, an animation, an image, a folder of images, or a pattern of image names.
        rate: frames per second, as in `read_frames`.

    Raises:
        ClipNotFoundError: there is nothing at `path`.
        ClipError: what is there cannot be read.
    """
    exact = None if rate is None else exact_rate(rate)
    with _access_errors(path):
        if path.is_file():
            decoder = open_animation(path) if path.suffix.lower() in IMAGE_SUFFIXES else open_video(path)
            return decoder if exact is None else resample(decoder, exact)
        files = find_images(path)
        if files:
            return open_sequence(files, exact or DEFAULT_RATE)
        if path.is_dir():
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ClipError(f"{path} is a folder without images; expected a video or images ({suffixes})")
        if path.exists():
            raise ClipError(f"{path} is a pipe or a device; expected a regular file (it is read more than once)")
        raise ClipNotFoundError(f"there is no clip at {path}{looked_in(path)}; check the path")


@contextmanager
def _access_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to look up a path into a `ClipError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TokenflowError):
            raise
        raise ClipError(f"cannot access {path} ({error.strerror}); check the path and its permissions") from error
