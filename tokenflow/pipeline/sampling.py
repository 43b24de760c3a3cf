"""From an inverted clip and settings to edited frames: regions, sampling, and decoding."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenflow.config import Edit
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.diffusion.few_step import MAX_STEPS
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.latents import Latents, LazyLatents, Scratch, WritableLatents, in_memory
from tokenflow.diffusion.sampling import Compose, sample, unchanged
from tokenflow.diffusion.schedules import Step
from tokenflow.events import Cancel, Listener, notice, track
from tokenflow.models.model import Model
from tokenflow.modes.carried import CarriedMode
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.checkpoint import Checkpoint
from tokenflow.pipeline.frames import EditedFrame, decode, restored
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.keyframes import Keyframes, carry_keyframes, filled, filling_mode
from tokenflow.pipeline.preview import Previewed
from tokenflow.pipeline.references import (
    Reference,
    build_references,
    guided_by_images,
    reader_of,
    reference_latents,
)
from tokenflow.pipeline.regions import ClipRegions, Excerpt, FoundRegion, RegionFinder, Regions, pasted
from tokenflow.pipeline.wiring import (
    build_correspondence,
    build_guidance,
    build_mode,
    build_prompt,
    build_propagation,
    kept_features,
)
from tokenflow.propagation import EditDenoiser
from tokenflow.propagation.pixels.between import carry_between
from tokenflow.regions.surroundings import around

OnStep = Callable[[Step, WritableLatents], object]
"""Called with a step and the latents (f c h w) after it, from which the next one starts: it may change them."""


@dataclass(frozen=True, eq=False)
class SampledEdit:
    """A sampled edit.

    Attributes:
        frames: decoded as they are asked for.
        regions: what it was allowed to change; None for the whole frame.
        found: how each region was found.
    """

    frames: Iterator[EditedFrame]
    regions: ClipRegions | None
    found: list[FoundRegion]


def edit_frames(
    source: InvertedClip,
    settings: Edit,
    keyframes: Keyframes | None = None,
    regions: Regions = (),
    *,
    references: Sequence[Reference] = (),
    excerpt: Excerpt | None = None,
    shown: Sequence[int] | None = None,
    scratch: Scratch = in_memory,
    folder: Path | None = None,
    checkpoint: Checkpoint | None = None,
    preview_every: int | None = None,
    on_step: OnStep | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> SampledEdit:
    """Sample an edit, and decode it frame by frame as they are asked for.

    Args:
        source: the clip.
        settings: of the edit.
        keyframes: the edited frames, in the mode that carries them.
        regions: the parts of the clip that may change.
        references: images whose look it takes.
        excerpt: where the clip is a part of another one, of which masks are.
        shown: which frames are decoded, in order; None for all. The mode that carries edited frames gives all.
        scratch: allocates latents.
        folder: where temporary files are; by default the system's folder for them.
        checkpoint: keeps the latents of each step, and has those from which to continue.
        preview_every: steps between previews; None for none.
        on_step: called after each step.
        on_event: called with each event.
        cancel: asked before every frame that is carried.
    """
    if keyframes is not None and regions == "auto":  # the edited frames say themselves where they differ
        regions = ()
    guidance = build_guidance(
        source.model,
        settings.prompt or source.prompt,
        settings.negative_prompt,
        settings.guidance_scale,
        source.size,
    )
    with build_correspondence(source, settings, folder) as correspondence:
        finder = RegionFinder(
            source,
            settings,
            guidance.conditional,
            correspondence,
            excerpt=excerpt,
            folder=folder,
            on_event=on_event,
            cancel=cancel,
        )
        within, found = finder.find(regions)
        options: dict[str, Any] = {
            "references": references,
            "scratch": scratch,
            "checkpoint": checkpoint,
            "preview_every": preview_every,
            "on_step": on_step,
            "on_event": on_event,
        }
        if keyframes is None:
            latents = sample_edit(source, guidance, settings, correspondence, regions=within, **options)
            whole = shown is None
            shown = range(len(latents)) if shown is None else shown
            chosen = LazyLatents(len(shown), lambda indices: latents[[shown[index] for index in indices]])
            decoded = decode(source, chosen, settings.batch_size, on_event)
            if settings.carry_interval is not None and whole:
                decoded = carry_between(source.frames, decoded, source.shots, settings.carry_interval)
            return SampledEdit(pasted(source, within, restored(source, decoded), shown), within, found)
        carried = carry_keyframes(source, keyframes, folder=folder, on_event=on_event, cancel=cancel)
        if within is not None:
            carried = carried.within(within.masks)
        sampled = None
        if not carried.complete:
            mode = filling_mode(source, carried, keyframes.strength, settings.batch_size)
            always = tuple(sorted(keyframes.images))
            latents = sample_edit(source, guidance, settings, correspondence, carried=mode, always=always, **options)
            sampled = restored(source, decode(source, latents, settings.batch_size, on_event))
        every = range(source.frame_count)
        return SampledEdit(pasted(source, within, filled(source, carried, sampled), every), within, found)


def sample_edit(
    source: InvertedClip,
    guidance: Guidance,
    settings: Edit,
    correspondence: Pairwise,
    *,
    carried: CarriedMode | None = None,
    regions: ClipRegions | None = None,
    references: Sequence[Reference] = (),
    always: tuple[int, ...] = (),
    scratch: Scratch = in_memory,
    checkpoint: Checkpoint | None = None,
    preview_every: int | None = None,
    on_step: OnStep | None = None,
    on_event: Listener | None = None,
) -> Latents:
    """The edited latents, f c h w.

    Args:
        source: the clip.
        guidance: the prompts.
        settings: of the edit.
        correspondence: where tokens lie in other frames.
        carried: the mode that fills in what carried frames do not show; None for the mode that the settings name.
        regions: outside of which the source's latents are put back after each step, or shown to a model that paints
            into images.
        references: images whose look it takes.
        always: frames that are keyframes at every step.
        scratch, checkpoint, preview_every, on_step, on_event: see `edit_frames`.
    """
    schedule = source.model.schedule
    notice_few_steps(source.model, settings)
    steps = sampling_steps(source.model, source.inversion, settings.steps)
    mode = carried or build_mode(source, settings)
    start, taken = mode.initial_latents(steps)
    kept = None if checkpoint is None else checkpoint.load(scratch)
    done, latents = kept or (0, start)
    denoiser = EditDenoiser(source.model, mode, guidance)
    prompt = guidance.conditional  # the edit's own, before those of regions
    compose: Compose = unchanged if carried is None else carried.compose
    if regions is not None:
        denoiser = _within(denoiser, regions, settings, source)
        if source.model.inpaints:  # it was trained to continue what it is shown, as its pipeline does, without more
            shown = around(source, regions.latents.inside, settings.batch_size, scratch)
            denoiser = replace(denoiser, surroundings=shown)
        else:
            compose = regions.latents.composed(mode.source_latents_at)
    denoiser = referring(denoiser, references, settings, source, prompt)
    predict = build_propagation(denoiser, source, settings, taken[done:], always, correspondence, on_event)
    if preview_every is not None and on_event is not None:
        predict = Previewed(predict, source, preview_every, on_event)
    renoise = denoiser.source_noise if schedule.few_step and schedule.few_step.renoises else None
    loop = sample(latents, taken[done:], predict, schedule.parametrisation, scratch, compose, renoise)
    label = "" if settings.propagation == "none" else kept_features(source, settings).worth_saying
    for latents in track(loop, "edit", on_event, total=len(taken), initial=done, label=label):
        done += 1
        if on_step is not None:
            on_step(taken[done - 1], latents)
        if checkpoint is not None:
            checkpoint.save(done, latents)
    return latents


def notice_few_steps(model: Model, settings: Edit) -> None:
    """Notices where settings do not suit a model of few steps."""
    few_step = model.schedule.few_step
    if few_step is None:
        return
    most = max(MAX_STEPS, few_step.steps)
    if settings.steps > most:
        notice(
            f"edit.steps is {settings.steps}, but this model was made for {most} or fewer, and more gain nothing; "
            f"set it to {few_step.steps}"
        )
    if model.guidance == "branches" and settings.guidance_scale > few_step.max_scale:
        notice(
            f"edit.guidance_scale is {settings.guidance_scale:g}, but models of few steps hardly take more than "
            f"{few_step.max_scale:g}; set it to 1, which is also faster"
        )


def referring(
    denoiser: EditDenoiser,
    references: Sequence[Reference],
    settings: Edit,
    source: InvertedClip,
    prompt: Conditioning,
) -> EditDenoiser:
    """The denoiser, with references: in its prompts if an IP-Adapter or the model itself reads them, else for
    attention."""
    if not references:
        return denoiser
    read_references = reader_of(source.model, settings.mode)
    if settings.ip_adapter is None and read_references is not None:
        latents = reference_latents(source, references)
        shown = read_references(latents, beside_source=settings.mode == "instruct") if latents else None
        return replace(denoiser, guidance=denoiser.guidance.showing(shown))
    if settings.ip_adapter is None:
        attended = build_references(source, references, prompt, settings.seed)
        return replace(denoiser, references=attended)
    guidance = guided_by_images(denoiser.guidance, source.model, settings.ip_adapter, references)
    return replace(denoiser, guidance=guidance)


def _within(denoiser: EditDenoiser, regions: ClipRegions, settings: Edit, source: InvertedClip) -> EditDenoiser:
    """The denoiser, with the prompts of regions that have their own."""
    if not regions.prompts:
        return denoiser
    model, guidance = denoiser.model, denoiser.guidance
    others = [build_prompt(model, prompt, settings.guidance_scale, source.size) for prompt in regions.prompts]
    prompts = guidance.with_prompts(stack([guidance.conditional, *others]))
    return EditDenoiser(model, denoiser.mode, prompts, prompt_shares=regions.latents.shares_of)
