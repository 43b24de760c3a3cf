"""The part of a clip that a configuration edits."""

from tokenflow.config import Clip
from tokenflow.video import Video


def open_clip(clip: Clip) -> Video:
    """The clip as a video; one frame is decoded.

    Raises:
        ClipError, ClipNotFoundError: it or its sound cannot be read.
    """
    return Video.read(
        clip.path,
        start=clip.start,
        frames=clip.frames,
        every=clip.every,
        rate=clip.rate,
        sound=clip.sound,
        background=clip.background,
    )
