"""Videos and images embedded in a page as data URIs."""

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from tokenflow.video import ClipInfo, VideoWriter, fit_size, probe, read_frames, resize

PLAYABLE = {".mp4": "h264", ".mov": "h264", ".webm": "vp9"}
"""Container -> the codec that all browsers play in it. Safari plays AV1 only where the hardware decodes it."""
PLAYABLE_PROFILES = {"Constrained Baseline", "Main", "High", "Profile 0"}
"""The profiles of these that they play: 8 bits, 4:2:0. Some browsers show nothing for lossless H.264."""
MAX_BYTES = 24 * 2**20
"""Larger videos are embedded as a smaller copy."""
PREVIEW = 960, 540
"""Maximum width and height of such a copy, in pixels."""
PREVIEW_QUALITY = 28
"""Constant rate factor of such a copy."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as a data URI, with its size in pixels."""

    uri: Markup
    width: int
    height: int


@dataclass(frozen=True)
class EmbeddedComparison:
    """A video of source and edit side by side as a data URI.

    Attributes:
        uri: the video.
        width, height: of one side, in pixels.
        times: seconds at which each frame is first shown, and at which the last one ends.
    """

    uri: Markup
    width: int
    height: int
    times: Sequence[float]


def embed_image(path: Path) -> EmbeddedImage:
    """A PNG, unchanged."""
    with Image.open(path) as image:
        return EmbeddedImage(_data_uri("image/png", path), *image.size)


def embed_comparison(path: Path) -> EmbeddedComparison:
    """The video as it is if it is small enough and plays in every browser, otherwise as a smaller copy."""
    times = _times(path)
    if _plays_anywhere(probe(path)) and path.stat().st_size <= MAX_BYTES:
        return _embedded(path, times)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "preview.mp4"
        _write_preview(path, copy, times)
        return _embedded(copy, times)


def _embedded(path: Path, times: Sequence[Fraction]) -> EmbeddedComparison:
    info = probe(path)
    uri = _data_uri("video/webm" if path.suffix == ".webm" else "video/mp4", path)
    return EmbeddedComparison(uri, info.width // 2, info.height, [round(float(time), 4) for time in times])


def _plays_anywhere(info: ClipInfo) -> bool:
    return info.codec == PLAYABLE.get(info.path.suffix) and info.profile in PLAYABLE_PROFILES


def _times(video: Path) -> list[Fraction]:
    """Seconds at which each frame is first shown, and at which the last one ends."""
    spans = [(frame.time, frame.time + frame.duration) for frame in read_frames(video)]
    return [*(start for start, _ in spans), spans[-1][1]]


def _write_preview(video: Path, copy: Path, times: Sequence[Fraction]) -> None:
    info = probe(video)
    box = min(PREVIEW[0], info.width), min(PREVIEW[1], info.height)
    width, height = fit_size(info.width, info.height, box, 2)
    *starts, end = times
    with VideoWriter(copy, width=width, height=height, times=starts, end=end, quality=PREVIEW_QUALITY) as writer:
        for frame in read_frames(video):
            writer.write(resize(frame.image, width, height))


def _data_uri(kind: str, path: Path) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}")
