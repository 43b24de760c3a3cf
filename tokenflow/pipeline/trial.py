"""trial(): some frames of a clip edited as the whole clip would be, in a fraction of the time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tokenflow.config import Config
from tokenflow.correspondence.cuts import find_cuts
from tokenflow.events import Cancel, Listener, listening
from tokenflow.models.model import Model
from tokenflow.pipeline.checks import check_interval, check_sampled
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.inversion import complete_inversion, working_frames
from tokenflow.pipeline.job import check_edit, inversion_options, open_model
from tokenflow.pipeline.output import TRIAL, sheet_path, write_sheet
from tokenflow.pipeline.references import checked_references, references_of
from tokenflow.pipeline.regions import Excerpt, checked_regions, regions_of
from tokenflow.pipeline.sampling import edit_frames
from tokenflow.pipeline.stages import NumberedStages, stage_2, work
from tokenflow.pipeline.validation import check_count, check_type
from tokenflow.store.memory import MemoryInversion
from tokenflow.video import Video
from tokenflow.video.shots import check_cuts, cuts_among


@dataclass(frozen=True, eq=False)
class Trial:
    """Some frames of a clip, edited together.

    Attributes:
        indices: which frames of the clip these are, k of them.
        source: k H W 3 uint8 at the working size.
        edited: k H W 3 uint8 at the working size.
        masks: k H W uint8 at the working size, what the edit was allowed to change: 255 inside; None without regions.
    """

    indices: tuple[int, ...]
    source: np.ndarray = field(repr=False)
    edited: np.ndarray = field(repr=False)
    masks: np.ndarray | None = field(default=None, repr=False)


def trial(
    config: Config,
    count: int,
    *,
    model: Model | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> Trial:
    """Edit `count` frames, spread over the clip, with the settings given; only these are inverted, in memory.

    All of them are keyframes at every step and attend to each other. In the edit of the whole clip a frame is a
    keyframe at some of the steps only, so the two differ a little.

    Args:
        config: of the clip and its edit.
        count: how many frames; all of them if the clip has fewer.
        model: the model that `config.model` names, if it is loaded already.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be used.
        ModelError, ModelNotFoundError: the model cannot be used.
        ConfigError: `count` is not a whole number above 0, or the edit's settings do not fit the clip.
        Cancelled: `cancel` returned True.
    """
    check_type("trial", config, Config, "load_config(path) reads one from a file")
    check_count("count", count)
    check_sampled(config.edit, "trial")
    checked_regions(regions_of(config.edit), config.clip.prompt, config.edit.mode)
    edit = config.edit.model_copy(update={"keyframe_interval": 1})
    with listening(on_event):
        references = checked_references(references_of(edit), edit)
        clip = open_clip(config.clip)
        check_interval(config.edit, len(clip))
        indices = spread(len(clip), count)
        model = model or open_model(config.model, on_event)
        check_edit(edit, model)
        inverted = edit.needs_inversion and model.schedule.few_step is None
        if on_event is not None:
            stages = ["read", "encode", *(["invert"] if inverted else []), *stage_2(edit)]
            on_event = NumberedStages(stages, work(config.inversion, edit), on_event)
        options, cuts = inversion_options(config), config.clip.cuts
        if cuts == "auto":
            cuts = find_cuts(image for image, _, _ in working_frames(clip, model, options))
        check_cuts(cuts, len(clip))
        options = replace(options, cuts=cuts_among(indices, cuts))
        shown = _chosen(clip, indices)
        source = complete_inversion(MemoryInversion(), shown, model, options, on_event=on_event, cancel=cancel)
        sampled = edit_frames(
            source,
            edit,
            None,
            regions_of(edit),
            references=references,
            excerpt=Excerpt(clip, indices, cuts),
            on_event=on_event,
        )
        frames = list(sampled.frames)
    edited = np.stack([frame.decoded for frame in frames])
    masks = [frame.decoded_mask for frame in frames if frame.decoded_mask is not None]
    return Trial(tuple(indices), source.frames[range(source.frame_count)], edited, np.stack(masks) if masks else None)


def trial_sheet(
    config: Config,
    count: int,
    *,
    model: Model | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Edit `count` frames of a clip as `trial` does, and write `trial.png`, the source above the edit, to `output.dir`.

    The rest of `output.dir` stays as it is. Arguments are those of `trial`.

    Raises:
        OutputError: nothing can be written to `output.dir`, or something of the user's there would be lost.
        Everything else that `trial` raises.
    """
    path = sheet_path(config, TRIAL)
    tried = trial(config, count, model=model, on_event=on_event, cancel=cancel)
    rows = {f"source: {config.clip.prompt}": tried.source, f"edit: {config.edit.prompt}": tried.edited}
    write_sheet(path, {label: list(images) for label, images in rows.items()})
    return path


def spread(frame_count: int, count: int) -> list[int]:
    """The middle frame of each of `count` equal parts of a clip, in order; all frames if it has fewer."""
    count = min(count, frame_count)
    return [int((2 * part + 1) * frame_count / (2 * count)) for part in range(count)]


def _chosen(clip: Video, indices: Sequence[int]) -> Video:
    """Some frames of a clip, in memory."""
    wanted = set(indices)
    frames = [frame for index, frame in enumerate(clip) if index in wanted]
    times = [frame.source_time for frame in frames]
    return Video(np.stack([frame.image for frame in frames]), times=times, end=clip.end)
