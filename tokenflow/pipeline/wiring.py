"""From settings to parts: the one place where a mode, a propagation and a correspondence are chosen by name."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tokenflow.config import Edit
from tokenflow.correspondence.features import FeatureCorrespondence, Features
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import Guidance, embedded
from tokenflow.diffusion.sampling import Predict
from tokenflow.diffusion.schedules import Step
from tokenflow.events import Listener, notice, track
from tokenflow.models.model import Model
from tokenflow.modes.controlnet import ControlNetMode
from tokenflow.modes.flowedit import FlowEditMode
from tokenflow.modes.instruct import InstructMode
from tokenflow.modes.mode import Mode
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.modes.source import InvertedClip
from tokenflow.modes.variation import Varied
from tokenflow.pipeline.inversion import source_steps
from tokenflow.pipeline.kept_features import KeptFeatures, kept_sites, predict_kept
from tokenflow.propagation import Anchored, EditDenoiser, PerFrame, TokenFlow
from tokenflow.propagation.extended_attention import extended_sites
from tokenflow.propagation.keyframes import frame_pairs
from tokenflow.propagation.tokenflow import Propagation, keyframe_per_interval

FEATURE_LEVEL = 0.25
"""At which fraction of the noise levels features are matched: enough noise to blur texture but not to hide shapes."""

DEFAULT_INTERVAL = 4
"""Frames per keyframe where no setting says how many."""

FINDING = {"flow": "flow", "nearest": "match"}
"""The stage in which the correspondences of each kind are found."""

MODES: dict[str, Callable[[InvertedClip, Edit], Mode]] = {
    "pnp": lambda source, edit: PnPMode(source, edit.pnp),
    "sdedit": lambda source, edit: SDEditMode(source, edit.sdedit, edit.seed),
    "controlnet": lambda source, edit: ControlNetMode(source, edit.controlnet, edit.seed),
    "flowedit": lambda source, edit: FlowEditMode(source, edit.flowedit, edit.seed),
    "instruct": lambda source, edit: InstructMode(source, edit.instruct, edit.seed),
}


def build_guidance(
    model: Model, prompt: str, negative_prompt: str, scale: float, size: tuple[int, int] | None
) -> Guidance:
    """The prompts as the model is guided by them, with notices about words that it does not read."""
    conditional = build_prompt(model, prompt, scale, size)
    if model.guidance == "branches":
        return Guidance(conditional, model.condition(negative_prompt, size=size, negative=True), scale)
    if negative_prompt:
        notice("this model has no second branch, so edit.negative_prompt has no effect; leave it empty")
    return Guidance(conditional, None, scale)


def build_prompt(model: Model, prompt: str, scale: float, size: tuple[int, int] | None) -> Conditioning:
    """A prompt, with the scale of guidance where the model is told it."""
    conditioning = model.condition(prompt, size=size)
    return embedded(conditioning, scale) if model.guidance == "embedded" else conditioning


def build_mode(source: InvertedClip, edit: Edit) -> Mode:
    """The mode that an edit names, varied if it asks for variation."""
    mode = MODES[edit.mode](source, edit)
    return Varied(mode, source, edit.variation, edit.seed) if edit.variation else mode


def build_propagation(
    denoiser: EditDenoiser,
    source: InvertedClip,
    edit: Edit,
    steps: Sequence[Step],
    always: Sequence[int],
    correspondence: Pairwise,
    on_event: Listener | None,
) -> Predict:
    """The propagation that an edit names, with the correspondences that it needs in some steps.

    `always` are frames that are keyframes at every step. In FlowEdit, and with a model of few steps, it is anchored to
    the source, unless the model is shown the source anyway.
    """
    make = _propagation(source, edit, steps, always, correspondence, on_event)
    is_flowedit, few_step = edit.mode == "flowedit", source.model.schedule.few_step is not None
    if not (is_flowedit or (few_step and edit.mode != "instruct")):
        return make(denoiser)
    scale = edit.flowedit.source_guidance_scale if is_flowedit else edit.guidance_scale
    prompt = embedded(source.conditioning, scale) if source.model.guidance == "embedded" else source.conditioning
    guidance = denoiser.guidance.with_prompts(prompt, scale)
    of_source = replace(denoiser, guidance=guidance, prompt_shares=None, references=None)
    return Anchored(make(denoiser), make(of_source), denoiser)


def _propagation(
    source: InvertedClip,
    edit: Edit,
    steps: Sequence[Step],
    always: Sequence[int],
    correspondence: Pairwise,
    on_event: Listener | None,
) -> Callable[[EditDenoiser], Predict]:
    """The same propagation for any denoiser."""
    if edit.propagation == "none":
        return lambda denoiser: PerFrame(denoiser, edit.batch_size)
    options = propagation_options(source, edit, always)
    pairs = pairs_by_step(options, steps)
    if not correspondence.needs_network:  # those of the first step are waited for, the others found while it works
        correspondence.find_ahead([pair for of_step in pairs for pair in of_step])
        pairs = pairs[:1]
    wanted = [pair for of_step in pairs for pair in of_step]
    if wanted:
        for pair in track(wanted, FINDING[edit.correspondence], on_event, total=len(wanted)):
            correspondence.prepare(*pair)
    return lambda denoiser: TokenFlow(denoiser, edit.batch_size, correspondence, options)


def pairs_by_step(options: Propagation, steps: Sequence[Step]) -> list[list[tuple[int, int]]]:
    """The pairs of frames between which tokens are propagated, by the step that is the first to need them."""
    seen: set[tuple[int, int]] = set()
    pairs = []
    for step in steps:
        needed = [pair for shot in options.shots for pair in frame_pairs(shot, options.keyframes(shot, step.index))]
        pairs.append([pair for pair in needed if pair not in seen])
        seen.update(needed)
    return pairs


def propagation_options(source: InvertedClip, edit: Edit, always: Sequence[int] = ()) -> Propagation:
    """What is propagated, and how."""
    return Propagation(
        shots=source.shots,
        draw_keyframes=keyframe_per_interval(keyframe_interval(edit, source.frame_count), edit.seed),
        window=keyframe_window(edit, source),
        extended=extended_sites(edit.extended_attention, source.model.sites),
        is_edit_propagated=lambda step: step.ends_by(edit.propagate_edit_until),
        propagate_guidance=edit.guidance == "propagated",
        kept=frozenset(site.name for site in kept_sites(source.model.sites, edit.propagated_layers)),
        kept_on=torch.device("cpu") if kept_features(source, edit).in_main_memory else None,
        always=tuple(always),
    )


def kept_features(source: InvertedClip, edit: Edit) -> KeptFeatures:
    """What an edit keeps of its keyframes for the frames between, predicted before it begins."""
    keyframes = -(-source.frame_count // keyframe_interval(edit, source.frame_count))
    return predict_kept(source, edit, min(keyframes, keyframe_window(edit, source)))


def keyframe_interval(edit: Edit, frame_count: int) -> int:
    """Frames per keyframe."""
    return edit.keyframe_interval or min(DEFAULT_INTERVAL, frame_count)


def keyframe_window(edit: Edit, source: InvertedClip) -> int:
    """How many keyframes attend to each other: all of them where that costs no more than attending to one."""
    all_linear = all(site.linear for site in source.model.sites)
    return source.frame_count if all_linear else edit.keyframe_window


def build_correspondence(source: InvertedClip, edit: Edit, scratch: Path | None = None) -> Pairwise:
    """The correspondence that an edit names."""
    if edit.correspondence == "nearest":
        return FeatureCorrespondence(source_features(source), scratch)
    height, width = source.latents(source.model.schedule.clean, [0]).shape[-2:]
    return FlowCorrespondence(source.frames, height, width, scratch, keep=source.inversion.kept_pairs)


def source_features(source: InvertedClip) -> Features:
    """The model's features of the source, for matching: read at one level of its inversion."""
    steps = source_steps(source)
    level = steps[round((1 - FEATURE_LEVEL) * (len(steps) - 1))].at

    def features(indices: Sequence[int]) -> Tensor:
        return source.model.base.features(source.latents(level, indices), level, source.conditioning)

    return features
