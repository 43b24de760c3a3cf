"""Clips of the page: uploads are checked and kept; what browsers cannot play is shown through a proxy."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from tokenflow.apps.uploads import check_upload, refuse_playlist
from tokenflow.apps.web.imports import importing
from tokenflow.apps.web.space import Space
from tokenflow.store.files import sha256, write_atomically

if TYPE_CHECKING:
    from tokenflow.video import ClipInfo

THUMBNAIL = 240
"""Pixels of the longer side of a thumbnail."""

DIGITS = 8
"""Of a file's SHA-256 in its name."""

PROXY_SIDE = 960
"""Pixels of the longer side of a proxy."""

PLAYABLE = {".mp4": ("h264", "av1"), ".m4v": ("h264",), ".webm": ("vp8", "vp9", "av1")}
"""Codecs that every current browser plays, by suffix."""

DEEP = ("10", "12", "4:2:2", "4:4:4", "Profile 1", "Profile 2", "Profile 3")
"""Parts of the names of profiles that browsers do not all play: more than 8 bits, or finer colour."""


def keep_upload(upload: Path, space: Space) -> Path:
    """Check an uploaded clip and keep it in the space, where results can refer to it.

    Raises:
        ClipError: it cannot be read, is a playlist, or is more than the limits allow.
    """
    refuse_playlist(upload)
    check_upload(upload, space.limits)
    name = f"{upload.stem}-{sha256(upload)[:DIGITS]}{upload.suffix.lower()}"
    kept = space.uploads / name
    if not kept.exists():
        with write_atomically(kept) as temporary:
            shutil.copyfile(upload, temporary)
    return kept


def describe(info: "ClipInfo") -> str:
    """A clip in a few words."""
    count = f"about {round(info.duration * info.rate)} frames, " if info.duration else ""
    seconds = f", {float(info.duration):.1f} s" if info.duration else ""
    return f"{count}{info.width}×{info.height}, {float(info.rate):.4g} frames per second{seconds}"


def thumbnail(clip: Path) -> Any:
    """The first frame of a video as a small image (PIL). It is read without torch, which takes seconds to import."""
    with av.open(str(clip)) as container:
        return small(next(container.decode(video=0)).to_image())


def small(image: Any) -> Any:
    """An image (PIL) at the size of a thumbnail."""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def playable(clip: Path, space: Space) -> Path:
    """A file with the content of a clip that browsers play: itself, or a proxy."""
    with importing():
        from tokenflow.video import probe

    info = probe(clip)
    if info.codec in PLAYABLE.get(clip.suffix.lower(), ()) and not _is_deep(info.profile):
        return clip
    proxy = space.proxies / f"{clip.stem}-{sha256(clip)[:DIGITS]}.mp4"
    if not proxy.exists():
        _write_proxy(clip, proxy, info)
    return proxy


def _is_deep(profile: str | None) -> bool:
    return any(part in (profile or "") for part in DEEP)


def _write_proxy(clip: Path, proxy: Path, info: "ClipInfo") -> None:
    with importing():
        from tokenflow.video import Video, VideoWriter, fit_size, resize

    scale = min(1.0, PROXY_SIDE / max(info.width, info.height))
    width, height = fit_size(info.width, info.height, max(2, round(min(info.width, info.height) * scale)), 2)
    video = Video.read(clip)
    proxy.parent.mkdir(parents=True, exist_ok=True)
    unfinished = proxy.with_name(f".{proxy.name}")
    with VideoWriter(unfinished, width=width, height=height, times=video.times, end=video.end) as writer:
        for frame in video:
            writer.write(resize(frame.image, width, height, "fit"))
    unfinished.replace(proxy)
