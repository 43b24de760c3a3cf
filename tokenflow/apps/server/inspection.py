"""What is done to an upload, in a process of its own: format, size and every frame, and whether settings fit."""

import importlib
import warnings
from pathlib import Path

from tokenflow.apps.server.findings import Inspected, Refused
from tokenflow.apps.server.settings import Limits
from tokenflow.apps.uploads import Limits as FileLimits
from tokenflow.apps.uploads import TooLargeError, check_upload, refuse_playlist
from tokenflow.config import Config
from tokenflow.errors import TokenflowError
from tokenflow.pipeline.checks import frame_count_check
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.disk_space import dimensions
from tokenflow.pipeline.keyframes import keyframes_of
from tokenflow.pipeline.regions import checked_regions, regions_of

MEMORY_BYTES = 4 * 2**30
"""That decoding may take beyond what the process has at its start, where the system has such limits."""

ROUNDING = 1e-6
"""Seconds by which a time may be off that was written with decimals."""


def inspect(config: Config, limits: Limits, seconds: float | None) -> Inspected | Refused:
    """What a clip is, or why it is not taken."""
    warnings.simplefilter("ignore")
    _limit_memory()
    try:
        return _inspect(config, limits, seconds)
    except TooLargeError as error:
        return Refused(413, str(error))
    except TokenflowError as error:
        return Refused(422, str(error))
    except MemoryError:
        return Refused(413, "the upload takes too much memory to decode; send a smaller one")


def _inspect(config: Config, limits: Limits, seconds: float | None) -> Inspected:
    for path in config.inputs:
        refuse_playlist(path)
        check_upload(path, FileLimits(limits.megabytes, limits.seconds, limits.pixels))
    frames, duration = _decode(config, limits, seconds)
    _, width, height = dimensions(config)
    if width * height > limits.working_pixels:
        raise TooLargeError(f"size: expected at most {limits.working_pixels} pixels to work at, got {width}×{height}")
    checked_regions(regions_of(config.edit), config.clip.prompt, config.edit.mode)
    keyframes_of(config.edit)
    frame_count_check(config, open_clip(config.clip))(frames)
    return Inspected(frames, width, height, duration)


def _decode(config: Config, limits: Limits, seconds: float | None) -> tuple[int, float]:
    """Decode every frame that would be edited: their number, and their length in seconds."""
    clip = open_clip(config.clip)
    first, count = clip.times[0], 0
    for time, frame in zip(clip.times, clip, strict=False):
        if seconds is not None and float(time - first) >= seconds - ROUNDING:
            return max(1, count), float(time - first)
        count += 1
        if count > limits.frames:
            raise TooLargeError(
                f"the clip has more than {limits.frames} frames; send a shorter one, or choose a part with "
                '"seconds", or settings such as {"clip": {"frames": 24}}'
            )
        height, width = frame.image.shape[:2]
        if width * height > limits.pixels:
            raise TooLargeError(f"a frame is {width}×{height}, more than {limits.pixels} pixels; scale the clip down")
    return count, float(clip.end - first)


def _limit_memory() -> None:
    """Limit the memory of this process, where that is possible."""
    try:
        resource = importlib.import_module("resource")
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except (ImportError, OSError):  # Windows, macOS
        return
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
