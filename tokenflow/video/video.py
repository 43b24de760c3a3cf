"""A video as a value: frames at full size with their times and sound, in memory or read from a file when needed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import repeat
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np

from tokenflow.errors import ClipError
from tokenflow.store.files import sha256
from tokenflow.video.clip_file import ClipInfo, check_sound, clip_files, probe
from tokenflow.video.encoders import holds_alpha
from tokenflow.video.in_memory import as_images, checked_alpha, frame_times
from tokenflow.video.reader import Frame, read_frames
from tokenflow.video.sound.muxer import SoundMode
from tokenflow.video.transparency import parse_colour, uncomposite
from tokenflow.video.writer import VideoWriter


@dataclass(frozen=True)
class Sound:
    """The sound that belongs to a video.

    Attributes:
        path: the file that holds it.
        start: seconds in that file at which the video starts.
    """

    path: Path
    start: Fraction


@dataclass(frozen=True)
class Part:
    """Which part of a file a video is.

    Attributes:
        path: a video file, an animation, an image, a folder of images, or a pattern of their names.
        start: seconds from the file's first frame.
        frames: how many frames at most; None for all.
        every: take every n-th frame.
        rate: frames per second; None for the file's own.
        background: what is seen through transparent pixels; None for black.
    """

    path: Path
    start: float = 0.0
    frames: int | None = None
    every: int = 1
    rate: float | None = None
    background: str | None = None


class Video:
    """Frames at full size, their times and their sound.

    `Video(frames, rate=24)` holds frames in memory; `Video.read(path)` decodes a file when frames are asked for.

    Args:
        frames: f H W 3, uint8, or floating point in [0, 1]; an array or a tensor. An array of uint8 is not copied:
            do not change it afterwards.
        rate: frames per second. Or
        times: seconds at which each frame is shown, strictly increasing. Exactly one of the two.
        end: seconds at which the last frame ends, on the clock of `times`; None to show it as long as the one before.
        sound: what is heard with it.
        alpha: f H W, uint8, the opacity of its pixels; None if all are opaque.
        background: the colour that `frames` show behind transparent pixels.

    Raises:
        ClipError: frames, rate or times are not as described.
    """

    def __init__(
        self,
        frames: Any,
        *,
        rate: Fraction | float | None = None,
        times: Sequence[Fraction] | None = None,
        end: Fraction | None = None,
        sound: Sound | None = None,
        alpha: np.ndarray | None = None,
        background: str = "black",
    ) -> None:
        self._part: Part | None = None
        self._was_read = False
        self._images: np.ndarray | None = as_images(frames)
        self._alpha = checked_alpha(alpha, self._images)
        parse_colour(background)
        self._background = background
        self._clock: tuple[tuple[Fraction, ...], Fraction] | None = frame_times(len(self._images), rate, times, end)
        self._sound = sound

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        *,
        start: float = 0.0,
        frames: int | None = None,
        every: int = 1,
        rate: float | None = None,
        sound: str | PathLike[str] | None = None,
        background: str | None = None,
    ) -> Self:
        """A clip or a part of it; one frame is decoded now, the others when they are asked for.

        Args:
            path: a video file, an animation, an image, a folder of images, or a pattern of their names.
            start: seconds from the clip's first frame.
            frames: how many frames at most; None for all.
            every: take every n-th frame.
            rate: frames per second: that of a sequence of images (25 by default); any other clip is resampled to it.
            sound: a file whose sound begins with the clip, in place of the clip's own.
            background: the colour behind transparent pixels, such as `white` or `#ff8000`; None for black.

        Raises:
            ClipNotFoundError: there is nothing at `path` or `sound`.
            ClipError: what is there cannot be read, or holds no image or no sound.
            ValueError: `start` is negative or not finite, `frames` or `every` is below 1, `rate` is out of range, or
                `background` is not a colour.
        """
        part = Part(Path(path), start, frames, every, rate, background)
        _read(part)  # checks the arguments
        video = cls.__new__(cls)
        video._part = part
        video._images = video._clock = video._alpha = None
        video._background = background or "black"
        video._was_read = False
        video.info  # noqa: B018 - says now what is wrong with a clip that cannot be read
        video._sound = None
        if sound is not None:
            check_sound(sound)
            video._sound = Sound(Path(sound), Fraction(0))
        return video

    def __repr__(self) -> str:
        if self._part is not None:
            return f"Video.read({str(self._part.path)!r})"
        width, height = self.size
        return f"<Video in memory: {len(self)} frames of {width}×{height}>"

    @cached_property
    def info(self) -> ClipInfo | None:
        """What the file holds; None for frames in memory."""
        return None if self._part is None else probe(self._part.path, rate=self._part.rate)

    @property
    def part(self) -> Part | None:
        """Which part of which file this is; None for frames in memory."""
        return self._part

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright and with square pixels."""
        if self.info is not None:
            return self.info.width, self.info.height
        height, width = self.frames.shape[1:3]
        return width, height

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        if self.info is not None and self._part is not None:
            return self.info.rate / self._part.every
        return len(self) / (self.end - self.times[0])

    @property
    def frames(self) -> np.ndarray:
        """All frames, f H W 3 uint8; those of a file are decoded at the first access and kept."""
        if self._images is None:
            decoded = list(self)
            self._images = np.stack([frame.image for frame in decoded])
            if self.has_alpha:
                self._alpha = np.stack([_opacity(frame) for frame in decoded])
        return self._images

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Seconds at which each frame is shown, on the clock of the clip."""
        return self._timing()[0]

    @property
    def end(self) -> Fraction:
        """Seconds at which the last frame ends, on the clock of the clip."""
        return self._timing()[1]

    @property
    def sound(self) -> Sound | None:
        """What is heard with it; None if it is silent."""
        if self._part is None:
            return self._sound
        return None if self.sound_file is None else Sound(self.sound_file, self._begin)

    @property
    def sound_file(self) -> Path | None:
        """Where its sound is; None if it is silent. No frame is decoded."""
        if self._sound is not None:
            return self._sound.path
        return self.info.path if self.info is not None and self.info.has_audio else None

    @property
    def has_alpha(self) -> bool:
        """Whether pixels may be transparent."""
        return self._alpha is not None if self.info is None else self.info.has_alpha

    @property
    def alpha(self) -> np.ndarray | None:
        """The opacity of all frames, f H W uint8, decoded when asked for; None if no pixel can be transparent."""
        if self._alpha is None and self.has_alpha:
            self._alpha = np.stack([_opacity(frame) for frame in self])
        return self._alpha

    @property
    def background(self) -> str:
        """The colour that frames show behind transparent pixels."""
        return self._background

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Frame]:
        """The frames one by one; those of a file are decoded in constant memory."""
        if self._images is not None and self._clock is not None:
            known, last = self._clock
            opacities = repeat(None, len(known)) if self._alpha is None else self._alpha
            for image, alpha, time, after in zip(self._images, opacities, known, [*known[1:], last], strict=True):
                yield Frame(image, time - known[0], time, after - time, alpha)
            return
        times: list[Fraction] = []
        end = Fraction(0)
        for frame in self._decode():
            times.append(frame.source_time)
            end = frame.source_time + frame.duration
            yield frame
        self._clock = tuple(times), end

    def write(
        self,
        path: str | PathLike[str],
        *,
        codec: str | None = None,
        quality: int | None = None,
        sound: SoundMode = "auto",
    ) -> None:
        """Write a file with the frames at their times, and the sound; the suffix chooses the container.

        Args:
            path: .mp4, .mov, .mkv or .webm; .gif, .webp or .apng, which hold no sound.
            codec, quality: see `VideoWriter`.
            sound: how it is written; see `SoundMode`.

        Raises:
            OutputError: the file cannot be written, or codec, size and container do not go together.
        """
        width, height = self.size
        alpha = self.has_alpha and holds_alpha(Path(path).suffix.removeprefix("."), codec)
        form: dict[str, Any] = {"width": width, "height": height, "codec": codec, "quality": quality, "alpha": alpha}
        form |= {"times": self.times, "end": self.end, "audio_mode": sound}
        form |= {} if self.sound is None else {"audio_from": self.sound.path, "audio_start": self.sound.start}
        behind = parse_colour(self.background)
        with VideoWriter(path, **form) as writer:
            for frame in self:
                opacity = frame.alpha if alpha else None
                image = frame.image if opacity is None else uncomposite(frame.image, opacity, behind)
                writer.write(image, opacity)

    def digest(self) -> str:
        """SHA-256 of the content: of the files of a clip, or of frames and times in memory."""
        digest = hashlib.sha256()
        if self._part is not None:
            for file in clip_files(self._part.path):
                digest.update(bytes.fromhex(sha256(file)))
        else:
            digest.update(repr((self.frames.shape, self._timing())).encode())
            digest.update(np.ascontiguousarray(self.frames).data)
        return digest.hexdigest()

    @cached_property
    def _begin(self) -> Fraction:
        """Seconds at which the first frame is shown, on the clock of the clip; the others are not decoded for it."""
        if self._clock is not None or self._part is None:
            return self.times[0]
        return next(_read(replace(self._part, frames=1, background=self.background))).source_time

    def _decode(self) -> Iterator[Frame]:
        if self._part is None:
            raise ValueError("expected a video of a file; this one is in memory")
        part = replace(self._part, background=self.background) if self._was_read else self._part
        self._was_read = True  # it is told once that the background is assumed
        return _read(part)

    def _timing(self) -> tuple[tuple[Fraction, ...], Fraction]:
        """Times and end, from one pass over the file where they are not known yet."""
        if self._clock is None:
            for _ in self:
                pass
        if self._clock is None:
            raise ClipError("the clip has no frames")
        return self._clock


def _read(part: Part) -> Iterator[Frame]:
    return read_frames(
        part.path,
        start=part.start,
        frames=part.frames,
        every=part.every,
        rate=part.rate,
        background=part.background,
    )


def _opacity(frame: Frame) -> np.ndarray:
    return np.full(frame.image.shape[:2], 255, np.uint8) if frame.alpha is None else frame.alpha
