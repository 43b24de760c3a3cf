"""The file formats a clip can be written in."""

from fractions import Fraction
from pathlib import Path

from tokenflow.errors import OutputError

_CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".gif": "gif",
    ".webp": "webp",
    ".apng": "apng",
}
_DEFAULT_CODECS = {"webm": "vp9", "gif": "gif", "webp": "webp", "apng": "apng"}
"""Of containers that do not hold H.264."""

ANIMATIONS = frozenset({"gif", "webp", "apng"})
"""Containers of images: they play in a loop, and hold no sound."""


def default_codec(container: str) -> str:
    """The codec of a container by its FFmpeg name, where none is chosen."""
    return _DEFAULT_CODECS.get(container, "h264")


def container_options(container: str, last_duration: Fraction) -> dict[str, str]:
    """FFmpeg's options for a container: animations play forever.

    Args:
        container: FFmpeg's name.
        last_duration: seconds for which the last frame is shown.
    """
    if container == "apng":
        delay = last_duration.limit_denominator(2**15)
        return {"plays": "0", "final_delay": f"{delay.numerator}/{delay.denominator}"}
    return {"loop": "0"} if container in ANIMATIONS else {}


def container_for(path: Path) -> str:
    """FFmpeg's name of the container that a file extension stands for.

    Raises:
        OutputError: the extension is unknown.
    """
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise OutputError(f"{path}: unknown video file extension; use one of {', '.join(_CONTAINERS)}")
    return container
