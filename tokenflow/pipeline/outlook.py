"""What an edit would do, for `--dry-run`: its stages, and the time, memory and disk space they take."""

from dataclasses import dataclass, replace

from tokenflow.config import Config
from tokenflow.models.sizes import is_few_step
from tokenflow.pipeline.checks import frame_count_check
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.disk_space import DiskSpace, dimensions, disk_space
from tokenflow.pipeline.job import find_inversion
from tokenflow.pipeline.regions import checked_regions, regions_of
from tokenflow.pipeline.stages import stage_1, stage_2, work


@dataclass(frozen=True)
class Outlook:
    """What an edit would do.

    Attributes:
        frames: of the clip that are edited.
        width: at the working size, in pixels.
        height: at the working size, in pixels.
        stages: those that would run, in order.
        seconds: they take, from the time that the check of the inversion took; None if that is not known.
        memory_mb: the process's peak in that check, in MiB; None if that is not known.
        disk: bytes that are added.
    """

    frames: int
    width: int
    height: int
    stages: tuple[str, ...]
    seconds: float | None
    memory_mb: int | None
    disk: DiskSpace


def outlook(config: Config) -> Outlook:
    """What `run` would do. Loads no model and writes nothing.

    Raises:
        ClipError, ClipNotFoundError: the clip, a mask or an edited frame cannot be read.
        ConfigError: the settings do not fit the clip or this machine.
        TrajectoryError: the stored inversion is damaged.
    """
    frames, width, height = dimensions(config)
    checked_regions(regions_of(config.edit), config.clip.prompt, config.edit.mode)
    frame_count_check(config, open_clip(config.clip))(frames)
    inversion = find_inversion(config)
    inverted = config.edit.needs_inversion and not is_few_step(config.model.path, config.model.few_step)
    before, after = stage_1(inversion, config.inversion.check, inverted=inverted), stage_2(config.edit)
    space = disk_space(config)
    if inversion.complete:
        space = replace(space, inversion=0)
    measured = (None if before else inversion.report()) or {}
    seconds = measured.get("seconds", {}).get("reconstruct")
    if seconds is not None:  # the check decodes twice what the edit does, which makes up for what that measures
        amounts = work(config.inversion, config.edit)
        seconds *= amounts["edit"] / amounts["reconstruct"]
    return Outlook(frames, width, height, (*before, *after), seconds, measured.get("peak_memory_mb"), space)
