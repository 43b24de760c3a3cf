"""What an edit would do, for `--dry-run`: its stages, and the time, memory and disk space they take."""

from dataclasses import dataclass, replace
from itertools import islice

from tokenflow.config import Config
from tokenflow.models.blank import stored_weights
from tokenflow.models.model import Model
from tokenflow.models.sizes import is_few_step
from tokenflow.pipeline.checks import frame_count_check
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.disk_space import DiskSpace, dimensions, disk_space, sheet_bytes
from tokenflow.pipeline.job import find_inversion, open_model
from tokenflow.pipeline.memory import MemoryEstimate, device_memory, estimate_memory
from tokenflow.pipeline.regions import checked_regions, regions_of
from tokenflow.pipeline.speed import Speed, measure_speed
from tokenflow.pipeline.stages import stage_1, stage_2, work
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import resize

ROUGHLY = 0.05
"""Of an estimate of flow: if less is missing, all of it is there."""


@dataclass(frozen=True)
class Outlook:
    """What an edit would do.

    Attributes:
        frames: of the clip that are edited.
        width: at the working size, in pixels.
        height: at the working size, in pixels.
        stages: those that would run, in order.
        seconds: they take; None if that cannot be told.
        memory: bytes that its networks take; None where the model's configuration is not on this machine.
        device_memory: bytes that their device has.
        disk: bytes that are added.
    """

    frames: int
    width: int
    height: int
    stages: tuple[str, ...]
    seconds: float | None
    memory: MemoryEstimate | None
    device_memory: int
    disk: DiskSpace


def outlook(config: Config, *, seeds: int | None = None, timed: bool = True, model: Model | None = None) -> Outlook:
    """What `run` would do, or `seed_sheet`. Writes nothing and downloads nothing.

    Args:
        config: of the clip and its edit.
        seeds: of a sheet of several; None for a whole edit.
        timed: load the model and time a call of it, if it is on this machine and no earlier run has told how long it
            takes.
        model: the model that `config.model` names, if it is loaded already.

    Raises:
        ClipError, ClipNotFoundError: the clip, a mask or an edited frame cannot be read.
        ConfigError: the settings do not fit the clip or this machine.
        ModelError: the model is not supported.
        TrajectoryError: the stored inversion is damaged.
    """
    frames, width, height = dimensions(config)
    checked_regions(regions_of(config.edit), config.clip.prompt, config.edit.mode)
    frame_count_check(config, open_clip(config.clip))(frames)
    inversion = find_inversion(config)
    inverted = config.edit.needs_inversion and not is_few_step(config.model.path, config.model.few_step)
    before, after = stage_1(inversion, config.inversion.check, inverted=inverted), stage_2(config.edit)
    space = disk_space(config)
    if seeds is not None:
        space = replace(space, result=sheet_bytes(config, 1 + seeds))
    if inversion.complete:
        missing = space.flow - inversion.kept_bytes
        space = replace(space, inversion=0, flow=missing if missing > ROUGHLY * space.flow else 0)
    memory = estimate_memory(config, frames, (width, height))
    available = device_memory(config)
    edits = after * (seeds or 1)
    seconds = _seconds_by_check(config, inversion, before, seeds or 1)
    fits = memory is None or memory.peak <= available
    if seconds is None and timed and fits and (model is not None or stored_weights(config.model)):
        speed = speed_of(config, model or open_model(config.model), (width, height))
        amounts = work(config.inversion, config.edit)
        seconds = speed.seconds([*before, *edits], amounts, frames, measured=config.metrics.enabled and seeds is None)
    return Outlook(frames, width, height, (*before, *after), seconds, memory, available, space)


def speed_of(config: Config, model: Model, size: tuple[int, int]) -> Speed:
    """The speed of this machine with a clip at a working size in pixels."""
    images = [each.image for each in islice(open_clip(config.clip), 2)]
    working = [resize(image, *size, config.clip.resize) for image in images]
    return measure_speed(config, model, [*working, working[0]])


def _seconds_by_check(config: Config, inversion: StoredInversion, before: list[str], edits: int) -> float | None:
    """Of edits, by the time that the check of their inversion took; None if it was not checked yet."""
    measured = (None if before else inversion.report()) or {}
    seconds = measured.get("seconds", {}).get("reconstruct")
    if seconds is None:
        return None
    amounts = work(config.inversion, config.edit)  # the check decodes twice, which makes up for what edits measure
    return float(edits * seconds * amounts["edit"] / amounts["reconstruct"])
