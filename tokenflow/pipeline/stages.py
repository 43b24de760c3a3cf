"""The stages of a run, known before it begins: which number each has, and how long all of them will take."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tokenflow.config import Edit
from tokenflow.config import Inversion as InversionSettings
from tokenflow.events import Event, Listener, Progress
from tokenflow.pipeline.reconstruction import is_checked
from tokenflow.pipeline.regions import prompts_of, regions_of
from tokenflow.pipeline.wiring import DEFAULT_INTERVAL, FINDING
from tokenflow.regions.by_text import PREDICTIONS_AT
from tokenflow.store.inversions import StoredInversion

NETWORK, AUTOENCODER = "network", "autoencoder"

STAGES = {
    "read": None,
    "encode": AUTOENCODER,
    "invert": NETWORK,
    "reconstruct": NETWORK,
    "compare": AUTOENCODER,
    "region": NETWORK,
    "carry": None,
    "flow": None,
    "match": None,
    "edit": NETWORK,
    "decode": AUTOENCODER,
}
"""In their order, with what each spends its time on; that of reading and of correspondences counts as none."""

CALLS_TO_FIND, CALLS_TO_FIND_CHANGES = 1, 2 * len(PREDICTIONS_AT)
"""Network calls per keyframe: for attention under two texts, and for predictions under two texts."""

ADDED_CALLS = {"pnp": 1.0, "sdedit": 0.0, "controlnet": 1.0, "flowedit": 2.0, "keyframes": 0.0, "instruct": 0.0}
"""Network calls per frame and step beside those of the edit: for the source's features, or a ControlNet's, or for the
source under both of its prompts."""

DECODING = 2.0
"""Time to decode a frame, of that to encode it."""


def stage_1(inversion: StoredInversion, check: bool, *, inverted: bool = True) -> list[str]:
    """The stages that an inversion and its check still need; without an inversion, frames are encoded and no more."""
    stages = []
    if not inversion.complete:
        stages += [] if inversion.has_frames else ["read"]
        stages += [] if inversion.levels else ["encode"]  # the clean latents are the first to be stored
        stages += ["invert"] if inverted else []
    if check and inverted and not is_checked(inversion):
        stages += ["reconstruct", "compare"]
    return stages


def stage_2(edit: Edit) -> list[str]:
    """The stages of an edit, with that in which correspondences are found if it needs any."""
    region = ["region"] if region_calls(edit) else []
    if edit.mode == "keyframes":  # whether anything is left to be sampled turns out while frames are carried
        return [*region, "carry"]
    finding = edit.propagation != "none" and edit.keyframe_interval != 1
    return [*region, *([FINDING[edit.correspondence]] if finding else []), "edit", "decode"]


def work(inversion: InversionSettings, edit: Edit) -> dict[str, float]:
    """Work of each stage per frame: network calls, or encoded frames, of which a decoded one counts as `DECODING`."""
    return {
        "read": 0.0,
        "encode": 1.0,
        "invert": float(inversion.steps * inversion.iterations),
        "reconstruct": float(inversion.steps),
        "compare": 2 * DECODING,
        "region": region_calls(edit),
        "carry": 0.0,
        "flow": 0.0,
        "match": 0.0,
        "edit": edit_calls(edit),
        "decode": DECODING,
    }


def region_calls(edit: Edit) -> float:
    """Network calls per frame that find the regions of an edit, which are read on keyframes."""
    if edit.regions == "auto":
        calls = 0 if edit.mode == "keyframes" else CALLS_TO_FIND + CALLS_TO_FIND_CHANGES
    else:
        by_text = [region for region in edit.regions if region.mask is None]
        calls = CALLS_TO_FIND * len(by_text) + CALLS_TO_FIND_CHANGES * sum(region.auto for region in by_text)
    return calls / (edit.keyframe_interval or DEFAULT_INTERVAL)


def edit_calls(edit: Edit) -> float:
    """Network calls per frame of an edit: keyframes at every step, other frames where the edit is not propagated."""
    taken = strength_of(edit)
    regions = regions_of(edit)
    more = 0 if regions == "auto" else len(prompts_of(regions))
    # conditional and unconditional, a branch per prompt of a region, and what the mode adds
    full = 2 + more + ADDED_CALLS[edit.mode]
    if edit.propagation == "none":
        return edit.steps * taken * full
    keyframes = 1 / (edit.keyframe_interval or DEFAULT_INTERVAL)
    late = min(1 - edit.propagate_edit_until, taken)
    branches = (1 if edit.guidance == "propagated" else 2) * (2 if edit.mode == "flowedit" else 1) + more
    return edit.steps * (taken * keyframes * full + late * (1 - keyframes) * branches)


def strength_of(edit: Edit) -> float:
    """Share of the steps that an edit takes."""
    strengths = {
        "sdedit": edit.sdedit.strength,
        "flowedit": edit.flowedit.strength,
        "keyframes": edit.keyframes.strength,
        "instruct": edit.instruct.strength,
    }
    return strengths.get(edit.mode, 1.0)


class NumberedStages:
    """A listener that adds to `Progress` the number of its stage and the time left of the whole run.

    Time per unit of work is learnt from the stages that have run; until then the time left is unknown.

    Args:
        stages: those of the run, in order. Others pass unchanged.
        work: of each stage.
        on_event: receives the events.
    """

    def __init__(self, stages: Sequence[str], work: Mapping[str, float], on_event: Listener) -> None:
        self._stages = list(stages)
        self._work = work
        self._on_event = on_event
        self._speed: dict[str | None, float] = {None: 0.0}

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, Progress) and event.stage in self._stages:
            place = self._stages.index(event.stage)
            self._learn(event)
            left = self._seconds_left(event, self._stages[place + 1 :])
            event = replace(event, number=place + 1, stages=len(self._stages), run_seconds_left=left)
        self._on_event(event)

    def _learn(self, event: Progress) -> None:
        """Seconds per unit of work, from a stage that is under way."""
        if event.seconds_left and event.total and self._work[event.stage]:
            seconds = event.seconds_left * event.total / (event.total - event.done)
            self._speed[STAGES[event.stage]] = seconds / self._work[event.stage]

    def _seconds_left(self, event: Progress, later: Sequence[str]) -> float | None:
        stages = later if event.seconds_left is not None else [event.stage, *later]
        speeds = [self._speed.get(STAGES[stage]) for stage in stages]
        seconds = [self._work[stage] * speed for stage, speed in zip(stages, speeds, strict=True) if speed is not None]
        return sum(seconds, event.seconds_left or 0.0) if len(seconds) == len(stages) else None
