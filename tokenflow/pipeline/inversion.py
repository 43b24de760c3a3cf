"""invert(): a video becomes an inverted clip, in memory or stored on disk."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from tokenflow import config
from tokenflow.correspondence.cuts import find_cuts
from tokenflow.diffusion.batches import as_tensor, batches, image_batches
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.inversion import LEVELS_READ, invert_latents, stored_dtype_after
from tokenflow.diffusion.latents import LazyLatents
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ClipError
from tokenflow.events import Cancel, Listener, listening, notice, progress, track
from tokenflow.models.interruptible import interruptible
from tokenflow.models.model import Model, token_count
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.validation import check_model, check_type, validated
from tokenflow.report.profiling import Stopwatch
from tokenflow.store.inversions import StoredInversion, finished_inversions
from tokenflow.store.memory import Inversion, MemoryInversion
from tokenflow.video import Part, ResizeMode, Video, fit_area, fit_size, resize
from tokenflow.video.shots import check_cuts

MAX_PIXELS = 4096**2
"""Of a frame at the working size: far more than any Stable Diffusion was trained at."""

MAX_SIDE = 8192
"""Pixels of its longer side: the shorter one may have been brought to `size` from next to nothing."""

MAX_CLIP_BYTES, MAX_PROMPT_BYTES = 36, 50
"""Of the clip's name and prompt in the name of a folder."""

STEPS_TO_READ = 25
"""Whose levels are read where a clip was not inverted."""

NOT_INVERTED = (
    "this model samples in a few steps and cannot be inverted: only the clean latents are kept, and edits start from "
    "noise that all frames share (edit.variation draws it from edit.seed). If it takes many steps after all, set "
    "model.few_step to false"
)

DEFAULTS = config.Inversion()

Cuts = Sequence[int] | Literal["auto"]


@dataclass(frozen=True)
class InversionOptions:
    """How a clip is inverted.

    Attributes:
        prompt: what the clip shows.
        size: of the shorter side, or a box (width, height), in pixels; None for as many pixels as the model was
            trained at.
        resize: what happens where the aspect is not quite what the model takes.
        steps: of sampling; 0 to keep clean latents only.
        iterations: fixed-point iterations per step.
        batch_size: frames per network call.
        reuse: take a finer inversion that is stored instead.
        cuts: where shots begin; what is inverted does not depend on it.
    """

    prompt: str
    size: int | tuple[int, int] | None
    resize: ResizeMode
    steps: int
    iterations: int
    batch_size: int
    reuse: bool = False
    cuts: Cuts = ()


def invert(
    clip: Video,
    model: Model,
    prompt: str,
    *,
    size: int | tuple[int, int] | None = None,
    resize: ResizeMode = "fit",
    cuts: Cuts = "auto",
    steps: int = DEFAULTS.steps,
    iterations: int = DEFAULTS.iterations,
    batch_size: int = DEFAULTS.batch_size,
    store: str | Path | None = None,
    reuse: bool = DEFAULTS.reuse,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> InvertedClip:
    """Bring a clip to the working size, encode it, and invert it: the latents at every noise level of sampling.

    A model of few steps cannot be inverted; then a notice says so, and the result holds the clean latents only.

    Args:
        clip: the video.
        model: the model that will edit it.
        prompt: what the clip shows, in the words that an edit then changes.
        size: working size: pixels of the shorter side, or a box (width, height) to fit into; None for as many pixels
            as the model was trained at. Rounded to what the model takes.
        resize: where the aspect is not quite what the model takes: `fit` stretches, `fill` crops, `pad` repeats edges.
        cuts: the frames at which shots begin, but for the first, counted from 0; `auto` finds them, with a notice. An
            edit carries nothing from one shot to another.
        steps: sampling steps to invert; 0 to keep clean latents only, which is all that FlowEdit and Instruct need.
        iterations: fixed-point iterations per step, a network call each.
        batch_size: frames per network call.
        store: a folder that keeps inversions. The same clip, model and settings are then not inverted again, and an
            interrupted inversion continues after its last complete level. None keeps everything in memory.
        reuse: take the finest inversion in `store` that differs only in more steps or iterations, if this one is not
            there; `steps` of the result says how many it took.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call, and while another call makes the same inversion; returning True
            raises `Cancelled`.

    Raises:
        TypeError: `clip` is not a `Video`, or `model` is not loaded.
        ClipError: the clip cannot be used.
        ConfigError: a value is out of range.
        TrajectoryError: what is stored is damaged.
        OutputError: nothing can be written to `store`.
        Cancelled: `cancel` returned True.
    """
    check_type("invert", clip, Video, "Video.read(path) opens a file")
    check_model("invert", model)
    counts = {"iterations": iterations, "batch_size": batch_size}
    is_none = steps == 0 and not isinstance(steps, bool)
    values = validated(config.Inversion, **counts, **({} if is_none else {"steps": steps}))
    source = validated(config.Clip, path="in memory", prompt=prompt, size=size, resize=resize, cuts=cuts)
    options = InversionOptions(
        prompt,
        source.size,
        resize,
        0 if is_none else values.steps,
        values.iterations,
        values.batch_size,
        reuse,
        source.cuts,
    )
    with listening(on_event):
        inversion = open_inversion(clip, model, options, None if store is None else Path(store))
        inverted = complete_inversion(inversion, clip, model, options, on_event=on_event, cancel=cancel)
    return replace(inverted, model=model)  # `cancel` stops this call, and none that uses its result


def open_inversion(clip: Video, model: Model, options: InversionOptions, store: Path | None) -> Inversion:
    """The inversion of this clip with this model and these options: in memory, or in a folder named after them all."""
    if store is None:
        return MemoryInversion()
    return open_stored(clip, model.base.fingerprint, options, store)


def open_stored(clip: Video, fingerprint: str, options: InversionOptions, store: Path) -> StoredInversion:
    """The stored inversion of a clip with the model of a fingerprint, complete or not; or, if it may be reused, a finer
    one that is complete."""
    part = clip.part
    made_from: dict[str, Any] = {
        "clip": clip.digest(),
        "part": None if part is None else _identity(part),
        "size": options.size,
        "resize": options.resize,
        "prompt": options.prompt,
        "model": fingerprint,
        "steps": options.steps,
        "iterations": options.iterations,
    }
    made_from = json.loads(json.dumps(made_from))  # tuples as lists, as they are read back
    if options.reuse and (finest := _finest(store, made_from)) is not None:
        return StoredInversion(*finest)
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    folder = store / folder_name("clip" if part is None else part.path.stem, options.prompt, digest)
    if not folder.exists():  # it may be there under an earlier name of the clip
        folder = min(store.glob(f"*-{digest}"), default=folder)
    return StoredInversion(folder, made_from)


def _identity(part: Part) -> dict[str, Any]:
    """What decides which frames a part of a clip has; what is left at its default does not count."""
    always = {"start": part.start, "frames": part.frames, "every": part.every}
    chosen = {"rate": part.rate, "background": part.background}
    return always | {name: value for name, value in chosen.items() if value is not None}


def _finest(store: Path, made_from: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The complete inversion that was made from just this; or the finest that differs only in more steps or iterations;
    or None."""
    at_least = {key: made_from[key] for key in ("steps", "iterations")}
    candidates = [
        (folder, each)
        for folder, each in finished_inversions(store)
        if each | at_least == made_from and all(each[key] >= count for key, count in at_least.items())
    ]

    def rank(candidate: tuple[Path, dict[str, Any]]) -> tuple[bool, int, int]:
        _, each = candidate
        return each == made_from, each["steps"], each["iterations"]

    return max(candidates, key=rank, default=None)


def complete_inversion(
    inversion: Inversion,
    clip: Video,
    model: Model,
    options: InversionOptions,
    *,
    check_frame_count: Callable[[int], None] = lambda count: None,
    watch: Stopwatch | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> InvertedClip:
    """Add to an inversion whatever it lacks.

    Args:
        inversion: as `open_inversion` gives it.
        clip, model, options: what it was opened for.
        check_frame_count: called with the number of frames before the network is; it may raise.
        watch: times the stages.
        on_event: called with each event.
        cancel: asked before every network call, also those made later with the result, and while waiting for another
            call that makes the same inversion.
    """
    model = interruptible(model, cancel)
    watch = watch or Stopwatch(model.device)
    if options.steps:
        model.schedule.steps(options.steps, tokens=1)  # says what is wrong with them before the work
    conditioning: Conditioning | None = None
    cuts: tuple[int, ...] | None = None
    if not inversion.complete:
        with inversion.locked(cancel):
            if not inversion.complete:  # another process may have finished it by now
                if not inversion.has_frames:
                    with watch.stage("read"):
                        inversion.write_frames(working_frames(clip, model, options, on_event))
                check_frame_count(len(inversion.times))
                cuts = _cuts(inversion, options)
                if options.cuts == "auto":
                    inversion.write_cuts(cuts)
                conditioning = _conditioning(inversion, model, options)
                _encode(inversion, model, options, watch, on_event)
                if options.steps and model.schedule.few_step is None:
                    with watch.stage("invert"):
                        _invert_missing(inversion, model.base, conditioning, options, on_event)
                elif options.steps:
                    notice(NOT_INVERTED)
                inversion.finish()
    else:
        check_frame_count(len(inversion.times))
    cuts = _cuts(inversion, options) if cuts is None else cuts
    conditioning = conditioning or _conditioning(inversion, model, options)
    steps = len(inversion.levels) - 1  # of the inversion that is stored, which may have taken more than the options say
    return InvertedClip(model, inversion, conditioning, options.prompt, clip, options.resize, steps, cuts)


def _cuts(inversion: Inversion, options: InversionOptions) -> tuple[int, ...]:
    """The cuts that were given, or those that are found; of the latter with a notice."""
    if options.cuts != "auto":
        check_cuts(options.cuts, len(inversion.times))
        return tuple(options.cuts)
    cuts = inversion.cuts
    if cuts is None:
        frames = inversion.frames()
        cuts = find_cuts(frames[index] for index in range(len(frames)))
    if cuts:
        notice(
            f"found {'a cut' if len(cuts) == 1 else 'cuts'} at frame {', '.join(map(str, cuts))}; each shot is edited "
            "by itself. If that is wrong, set clip.cuts to the frames at which shots begin, or to [] for one shot"
        )
    return cuts


def _conditioning(inversion: Inversion, model: Model, options: InversionOptions) -> Conditioning:
    """The source's prompt for the model that inverts; or, where nothing is inverted, for the one that edits, beside
    whose own error on the source the edit is made."""
    height, width = inversion.frames().shape[1:3]
    reads = model if model.schedule.few_step else model.base
    return reads.condition(options.prompt, size=(width, height))


def working_frames(
    clip: Video, model: Model, options: InversionOptions, on_event: Listener | None = None
) -> Iterator[tuple[np.ndarray, Fraction, Fraction]]:
    """The clip's frames at the working size, with the time of each and its duration."""
    width, height = working_size(clip, model.native_size, model.size_multiple, options.size)
    for frame in track(clip, "read", on_event):
        yield resize(frame.image, width, height, options.resize), frame.source_time, frame.duration


def working_size(clip: Video, native_size: int, multiple: int, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Width and height at which a clip is edited: of the area that the model was trained at, unless a size is given.

    Raises:
        ClipError: they are more than any model takes.
    """
    width, height = fit_size(*clip.size, size, multiple) if size else fit_area(*clip.size, native_size, multiple)
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        name = "the clip" if clip.part is None else clip.part.path
        raise ClipError(
            f"{name} is {clip.size[0]}×{clip.size[1]} and would be edited at {width}×{height}, more than a model takes "
            f"({MAX_PIXELS} pixels, {MAX_SIDE} on the longer side); set clip.size to less, or to a box [width, height]"
        )
    return width, height


def _encode(
    inversion: Inversion, model: Model, options: InversionOptions, watch: Stopwatch, on_event: Listener | None
) -> None:
    if model.schedule.clean in inversion.levels:
        return
    frames = inversion.frames()

    def encoded() -> Iterator[Tensor]:
        with progress("encode", len(frames), on_event) as advance:
            height, width = frames.shape[1:3]
            for indices in image_batches(len(frames), options.batch_size, (width, height)):
                yield model.encode(as_tensor(frames[indices]))
                advance(len(indices))

    with watch.stage("encode"):
        inversion.write_latents(model.schedule.clean, encoded())


def _invert_missing(
    inversion: Inversion,
    model: Model,
    conditioning: Conditioning,
    options: InversionOptions,
    on_event: Listener | None,
) -> None:
    """Continue from the noisiest level that is stored."""
    steps = sampling_steps(model, inversion, options.steps)
    count, stored = len(inversion.times), inversion.levels
    missing = [step for step in steps if step.at not in stored]
    levels = invert_latents(
        [(level, LazyLatents(count, partial(inversion.latents, level))) for level in stored[-LEVELS_READ:]],
        missing,
        lambda latents, level: model.predict(latents, level, conditioning)[0],
        model.schedule.parametrisation,
        batch_size=options.batch_size,
        iterations=options.iterations,
        scratch=inversion.scratch,
        dtype_after=stored_dtype_after,
    )
    done = len(steps) - len(missing)
    for level, latents in track(levels, "invert", on_event, total=len(steps), initial=done):
        dtype = stored_dtype_after(inversion.levels[-1])
        groups = (latents[indices].to(dtype) for indices in batches(range(count), options.batch_size))
        inversion.write_latents(level, groups)


def sampling_steps(model: Model, inversion: Inversion, count: int) -> tuple[Step, ...]:
    """The sampling steps of a model for frames of this size."""
    height, width = inversion.frames().shape[1:3]
    return model.schedule.steps(count, tokens=token_count(model, (width, height)))


def source_steps(source: InvertedClip) -> tuple[Step, ...]:
    """The steps at whose levels a clip is read: those of its inversion, or a few where it was not inverted."""
    return sampling_steps(source.model, source.inversion, source.steps or STEPS_TO_READ)


def folder_name(clip: str, prompt: str, digest: str) -> str:
    """The name of a stored inversion: clip, prompt and digest, at most 100 bytes that any file system takes."""
    return "-".join(filter(None, (_slug(clip, MAX_CLIP_BYTES), _slug(prompt, MAX_PROMPT_BYTES), digest)))


def _slug(text: str, max_bytes: int) -> str:
    """Words joined by underscores, cut to a number of bytes of UTF-8."""
    words = re.sub(r"\W+", "_", unicodedata.normalize("NFC", text)).strip("_")
    return words.encode()[:max_bytes].decode(errors="ignore").rstrip("_")
