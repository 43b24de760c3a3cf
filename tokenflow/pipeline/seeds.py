"""seed_sheet(): the same edit from several seeds, on one inversion, as one image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tokenflow.config import Config, Edit
from tokenflow.events import Cancel, Listener, listening, notice
from tokenflow.models.model import Model
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.checks import check_sampled
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.job import check_edit, invert_stored, open_inversion_of, open_model
from tokenflow.pipeline.memory import check_memory
from tokenflow.pipeline.output import SEEDS, sheet_path, write_sheet
from tokenflow.pipeline.references import Reference, checked_references, references_of
from tokenflow.pipeline.regions import checked_regions, regions_of
from tokenflow.pipeline.sampling import edit_frames
from tokenflow.report import sheet_frames
from tokenflow.report.profiling import Stopwatch


def seed_sheet(
    config: Config,
    count: int,
    *,
    model: Model | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Edit a clip from `count` seeds, `edit.seed` and those that follow, and write `seeds.png` to `output.dir`.

    The image has a row of frames of the source and one of each edit. The clip is inverted at most once, and the rest of
    `output.dir` stays as it is.

    Args:
        config: of the clip and its edit.
        count: how many seeds.
        model: the model that `config.model` names, if it is loaded already.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Raises:
        ConfigError: the edit's mode is keyframes.
        OutputError: nothing can be written to `output.dir`, or something of the user's there would be lost.
        Everything else that `run` raises.
    """
    check_sampled(config.edit, "sheet of seeds")
    checked_regions(regions_of(config.edit), config.clip.prompt, config.edit.mode)
    with listening(on_event):
        references = checked_references(references_of(config.edit), config.edit)
        path = sheet_path(config, SEEDS)
        clip = open_clip(config.clip)
        check_memory(config)
        model = model or open_model(config.model)
        check_edit(config.edit, model)
        stored = open_inversion_of(config, clip, model)
        source, _ = invert_stored(config, clip, model, stored, Stopwatch(model.device), on_event, cancel)
        _notice_alike(config.edit)
        shown = sheet_frames(source.frame_count)
        rows = {f"source: {config.clip.prompt}": list(source.frames[shown])}
        for seed in range(config.edit.seed, config.edit.seed + count):
            edit = config.edit.model_copy(update={"seed": seed})
            rows[f"seed {seed}: {edit.prompt}"] = _edited_frames(source, edit, references, shown, on_event)
        write_sheet(path, rows)
    return path


def _edited_frames(
    source: InvertedClip,
    edit: Edit,
    references: Sequence[Reference],
    shown: list[int],
    on_event: Listener | None,
) -> list[np.ndarray]:
    """Some frames of an edit at the working size, H W 3 uint8; only these are decoded."""
    made = edit_frames(source, edit, None, regions_of(edit), references=references, shown=shown, on_event=on_event)
    return [frame.decoded for frame in made.frames]


def _notice_alike(edit: Edit) -> None:
    """Say so if all seeds start from the same noise."""
    noises = {
        "sdedit": edit.sdedit.noise,
        "controlnet": edit.controlnet.noise,
        "flowedit": "shared",
        "instruct": "shared",
    }
    noise = noises.get(edit.mode, "inversion")
    if noise == "inversion" and not edit.variation:
        notice(
            "seeds hardly differ, since every edit starts from the inversion's noise; set edit.variation above 0, such "
            "as 0.5"
        )
