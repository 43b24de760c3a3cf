"""What an uploaded file may be: no playlist, and no more than some limits."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av

from tokenflow.apps.web.imports import importing
from tokenflow.errors import ClipError

if TYPE_CHECKING:
    from tokenflow.video import ClipInfo

PLAYLISTS = ("hls", "concat", "dash", "imf")
"""FFmpeg's names of formats that refer to other files."""


@dataclass(frozen=True)
class Limits:
    """What an uploaded clip may have at most.

    Attributes:
        megabytes: size of the file, in 10⁶ bytes.
        seconds: length.
        pixels: width × height of a frame.
    """

    megabytes: float = 500
    seconds: float = 300
    pixels: int = 4096 * 2304


class TooLargeError(ClipError):
    """An upload is more than the limits allow."""


def refuse_playlist(upload: Path) -> None:
    """Refuse a file that makes FFmpeg read other files, which may be anyone's.

    Raises:
        ClipError: it is a playlist.
    """
    with (
        suppress(av.FFmpegError),
        av.open(f"file:{upload}", container_options={"protocol_whitelist": "file"}) as container,
    ):
        if container.format.name in PLAYLISTS:
            raise ClipError(f"{upload.name} is a playlist; upload the clip itself")


def check_upload(upload: Path, limits: Limits) -> None:
    """Check an uploaded clip or image.

    Raises:
        TooLargeError: it is more than the limits allow.
        ClipError: it cannot be read.
    """
    if upload.stat().st_size > limits.megabytes * 10**6:
        raise TooLargeError(f"{upload.name} has more than {limits.megabytes} MB; upload a shorter or smaller one")
    check_limits(upload, limits)


def check_limits(clip: Path, limits: Limits) -> "ClipInfo":
    """What a clip is.

    Raises:
        TooLargeError: it is longer or larger than allowed.
        ClipError: it cannot be read.
    """
    with importing():
        from tokenflow.video import probe

    info = probe(clip)
    if info.width * info.height > limits.pixels:
        raise TooLargeError(
            f"{clip.name} is {info.width}×{info.height}, more than {limits.pixels} pixels; scale it down"
        )
    if (info.duration or 0) > limits.seconds:
        raise TooLargeError(f"{clip.name} is longer than {limits.seconds} s; cut out the part to edit")
    return info
