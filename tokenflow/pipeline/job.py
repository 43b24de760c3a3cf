"""run() and preprocess(): from a configuration to files, around invert and edit."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokenflow import report
from tokenflow.config import Config, Edit, load_config
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import ConfigError
from tokenflow.events import Cancel, Listener, listening
from tokenflow.metrics import EditMetrics, judge
from tokenflow.models.loading import load_model, stored_fingerprint
from tokenflow.models.model import Model
from tokenflow.models.placement import choose_device
from tokenflow.modes.control_images import detector_of
from tokenflow.modes.instruct import NOT_MADE_FOR_IT
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline import output as results
from tokenflow.pipeline.checkpoint import Checkpoint, digest_of
from tokenflow.pipeline.checks import check_paints_somewhere, frame_count_check, notice_missing_triggers
from tokenflow.pipeline.clip import open_clip
from tokenflow.pipeline.frames import EditedFrame
from tokenflow.pipeline.inversion import (
    InversionOptions,
    complete_inversion,
    open_stored,
    working_size,
)
from tokenflow.pipeline.keyframes import keyframes_of
from tokenflow.pipeline.memory import check_memory
from tokenflow.pipeline.metrics_setup import classifier_of, open_metrics, open_score, open_words_seen
from tokenflow.pipeline.reconstruction import (
    LOSSLESS,
    RECONSTRUCTION,
    checked_reconstruction,
    notice_poor_reconstruction,
)
from tokenflow.pipeline.references import Reference, checked_references, load_ip_adapter, reader_of, references_of
from tokenflow.pipeline.regions import Regions, checked_regions, regions_of
from tokenflow.pipeline.sampling import edit_frames
from tokenflow.pipeline.stages import NumberedStages, stage_1, stage_2, work
from tokenflow.pipeline.validation import check_count, check_type
from tokenflow.report.profiling import Stopwatch
from tokenflow.store.arrays import on_disk
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import Video, read_frames


@dataclass(frozen=True)
class PreprocessResult:
    """What `preprocess` left on disk.

    Attributes:
        folder: the inversion's.
        frame_count: how many frames were read.
        reconstruction: the video of the inversion sampled back; None if the check is off.
        report: of the reconstruction check; None if it is off.
    """

    folder: Path
    frame_count: int
    reconstruction: Path | None
    report: dict[str, Any] | None


@dataclass(frozen=True)
class EditResult:
    """What an edit left in its `output.dir`.

    Attributes:
        video: the edited clip, with the source's times and sound.
        comparison: source and edit side by side; None if it was switched off.
        region: white where the edit could change something; None if that was everything.
        contact_sheet: frames of both as one image; None if it was switched off.
        page: the report as a page for a browser; None if it was switched off.
        report: the content of report.json.
    """

    video: Path
    comparison: Path | None
    region: Path | None
    contact_sheet: Path | None
    page: Path | None
    report: dict[str, Any]

    @property
    def frames(self) -> np.ndarray:
        """The edited frames, f H W 3 uint8, decoded from the video at each access."""
        return np.stack([frame.image for frame in read_frames(self.video, background="black")])


def preprocess(
    config: Config, *, model: Model | None = None, on_event: Listener | None = None, cancel: Cancel | None = None
) -> PreprocessResult:
    """Invert a clip into `trajectories.dir`, and check how well the inversion reconstructs it.

    Does nothing if the same clip was inverted with the same model and settings, and continues after the last complete
    level if that was interrupted.

    Args:
        config: of the clip and its edit.
        model: the model that `config.model` names, if it is loaded already.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call, and while another call makes the same inversion; returning True
            raises `Cancelled`.

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be used.
        ModelError, ModelNotFoundError: the model cannot be used.
        TrajectoryError: what is stored is damaged.
        OutputError: nothing can be written there.
        ConfigError: the edit's settings do not fit the number of frames.
    """
    check_type("preprocess", config, Config, "load_config(path) reads one from a file")
    with listening(on_event):
        clip = open_clip(config.clip)
        check_memory(config)
        model = model or open_model(config.model, on_event)
        stored = open_inversion_of(config, clip, model)
        on_event = _numbered(config, model, stored, [], on_event)
        source, content = invert_stored(config, clip, model, stored, Stopwatch(model.device), on_event, cancel)
    made = None if content is None else stored.folder / RECONSTRUCTION
    return PreprocessResult(stored.folder, source.frame_count, made, content)


def run(
    config: Config,
    *,
    model: Model | None = None,
    preview_every: int | None = None,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> EditResult:
    """Edit a clip from a configuration to a result folder; inverts it first if that is missing.

    Continues after the last finished sampling step if the same edit was interrupted, with the same result to the bit.

    Args:
        config: of the clip and its edit.
        model: the model that `config.model` names, if it is loaded already.
        preview_every: send a `Preview` every so many steps; None for none.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call, and while another call makes the same inversion; returning True
            raises `Cancelled`.

    Raises:
        ConfigError: settings that contradict each other or the clip.
        OutputError: nothing can be written to `output.dir`, or something of the user's there would be lost.
        Everything that `preprocess` raises.
    """
    check_type("run", config, Config, "load_config(path) reads one from a file")
    if preview_every is not None:
        check_count("preview_every", preview_every)
    watch = Stopwatch(choose_device(config.model.device) if model is None else model.device)
    with listening(on_event), results.open_output(config) as folder:
        notice_missing_triggers(config.edit.prompt, config.model.loras)
        keyframes_of(config.edit)  # says now which images are missing
        checked_regions(regions_of(config.edit), config.clip.prompt, config.edit.mode)
        references = checked_references(references_of(config.edit), config.edit)
        clip = open_clip(config.clip)
        results.check_encoding(config.output, clip, clip.size, folder)
        check_memory(config)
        with watch.stage("load"):
            model = model or open_model(config.model, on_event)
        working = working_size(clip, model.native_size, model.size_multiple, config.clip.size)
        written = results.written_size(clip, working, config.clip.resize)
        if written != clip.size:
            results.check_encoding(config.output, clip, written, folder)
        check_edit(config.edit, model)
        score, words = open_score(config, model.device), open_words_seen(config)
        stored = open_inversion_of(config, clip, model)
        on_event = _numbered(config, model, stored, stage_2(config.edit), on_event)
        with watch.stage("preprocess"):
            source, content = invert_stored(config, clip, model, stored, Stopwatch(model.device), on_event, cancel)
        metrics = open_metrics(config, source, None if content is None else stored.folder / LOSSLESS, score, words)
        checkpoint = Checkpoint(config.output.dir, folder, digest_of(config.edit, stored, source.cuts, model))
        regions = _edit(config, source, references, folder, checkpoint, metrics, watch, preview_every, on_event, cancel)
        reported = _report(config, source, stored, content, metrics) | {"regions": regions} | watch.figures()
        if metrics is not None:
            keeps_object = words is not None and words.keeps_object
            found = judge(reported["metrics"], config.edit.mode, keeps_object=keeps_object)
            reported["verdict"] = asdict(found)
        reported = results.write_reports(folder, config, reported)
        checkpoint.clear()
    return _result(config, reported)


def open_result(folder: str | Path) -> EditResult:
    """What an earlier edit left in its `output.dir`.

    Raises:
        ConfigError: there is no finished edit in the folder.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / results.REPORT).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"there is no finished edit in {folder} ({error}); run it, or name another folder") from error
    config = load_config(folder / results.CONFIG, environment={})
    output = config.output.model_copy(update={"dir": folder})
    return _result(config.model_copy(update={"output": output}), content)


def open_model(settings: ModelSettings, on_event: Listener | None = None) -> Model:
    """The model that a configuration names."""
    return load_model(
        settings.path,
        device=settings.device,
        dtype=settings.dtype,
        base=settings.base,
        revision=settings.revision,
        variant=settings.variant,
        vae=settings.vae,
        prediction_type=settings.prediction_type,
        few_step=settings.few_step,
        loras=settings.loras,
        textual_inversions=settings.textual_inversions,
        quantization=settings.quantization,
        text_encoder_quantization=settings.text_encoder_quantization,
        offload=settings.offload,
        tiling=settings.tiling,
        compile=settings.compile,
        on_event=on_event,
    )


def find_inversion(config: Config) -> StoredInversion:
    """The stored inversion that a configuration would use, complete or not, without loading its model."""
    model = config.model
    fingerprint = stored_fingerprint(
        model.path,
        device=model.device,
        dtype=model.dtype,
        base=model.base,
        revision=model.revision,
        variant=model.variant,
        vae=model.vae,
        prediction_type=model.prediction_type,
        few_step=model.few_step,
        loras=model.loras,
        textual_inversions=model.textual_inversions,
        quantization=model.quantization,
        text_encoder_quantization=model.text_encoder_quantization,
        tiling=model.tiling,
    )
    return open_stored(open_clip(config.clip), fingerprint, inversion_options(config), config.trajectories.dir)


def inversion_options(config: Config) -> InversionOptions:
    """How a configuration inverts its clip; not at all in a mode that needs the clean latents only."""
    clip, inversion = config.clip, config.inversion
    return InversionOptions(
        clip.prompt,
        clip.size,
        clip.resize,
        inversion.steps if config.edit.needs_inversion else 0,
        inversion.iterations,
        inversion.batch_size,
        inversion.reuse,
        clip.cuts,
    )


def check_edit(edit: Edit, model: Model, regions: Regions | None = None) -> None:
    """Check before the inversion that a model can make an edit, with regions in memory if they are given.

    Raises:
        ConfigError: it has fewer noise levels than the edit has steps, was not made for the mode, or needs a region.
        ModelError, ModelNotFoundError: a ControlNet, its detector or the IP-Adapter cannot be used.
    """
    model.schedule.steps(edit.steps, tokens=1)
    if edit.mode == "instruct" and not model.instructs:
        raise ConfigError(NOT_MADE_FOR_IT)
    check_paints_somewhere(model, regions_of(edit) if regions is None else regions, edit.mode)
    if edit.mode == "controlnet":
        paths = [unit.path for unit in edit.controlnet.units]
        for unit in edit.controlnet.units:
            model.load_control(unit.path, unit.detector, paths)
            detector_of(unit, model.device)
    if edit.references:
        reader_of(model, edit.mode)
    if edit.ip_adapter is not None and edit.references:
        load_ip_adapter(model, edit.ip_adapter)


def open_inversion_of(config: Config, clip: Video, model: Model) -> StoredInversion:
    """The stored inversion of a clip, complete or not."""
    inversion = open_stored(clip, model.base.fingerprint, inversion_options(config), config.trajectories.dir)
    inversion.check_parts()
    return inversion


def _numbered(
    config: Config, model: Model, inversion: StoredInversion, after: list[str], on_event: Listener | None
) -> Listener | None:
    """The listener, with stages numbered: those that stage 1 still needs, and those after it."""
    if on_event is None:
        return None
    inverted = config.edit.needs_inversion and model.schedule.few_step is None
    stages = stage_1(inversion, config.inversion.check, inverted=inverted) + after
    return NumberedStages(stages, work(config.inversion, config.edit), on_event)


def invert_stored(
    config: Config,
    clip: Video,
    model: Model,
    inversion: StoredInversion,
    watch: Stopwatch,
    on_event: Listener | None,
    cancel: Cancel | None,
) -> tuple[InvertedClip, dict[str, Any] | None]:
    """The inverted clip, and the report of its check."""
    options = inversion_options(config)
    source = complete_inversion(
        inversion,
        clip,
        model,
        options,
        check_frame_count=frame_count_check(config, clip),
        watch=watch,
        on_event=on_event,
        cancel=cancel,
    )
    if not (config.inversion.check and source.steps):  # without steps there is nothing to sample back
        return source, None
    content = checked_reconstruction(source, inversion, options.batch_size, watch, on_event, cancel)
    notice_poor_reconstruction(content["reconstruction"], config.inversion.warn_below_psnr)
    return source, content


def _edit(
    config: Config,
    source: InvertedClip,
    references: Sequence[Reference],
    folder: Path,
    checkpoint: Checkpoint,
    metrics: EditMetrics | None,
    watch: Stopwatch,
    preview_every: int | None,
    on_event: Listener | None,
    cancel: Cancel | None,
) -> list[dict[str, Any]]:
    """Sample, decode, write and measure; the scratch files in the folder are closed when this returns.

    Returns:
        The regions, as the report has them.
    """
    with watch.stage("edit"):
        made = edit_frames(
            source,
            config.edit,
            keyframes_of(config.edit),
            regions_of(config.edit),
            references=references,
            scratch=on_disk(folder),
            folder=folder,
            checkpoint=checkpoint,
            preview_every=preview_every,
            on_event=on_event,
            cancel=cancel,
        )
    with watch.stage("decode"):
        _write_frames(config, source, made.frames, folder, metrics)
    return [asdict(region) for region in made.found]


def _write_frames(
    config: Config, source: InvertedClip, edited: Iterator[EditedFrame], folder: Path, metrics: EditMetrics | None
) -> None:
    """Decode, write and measure the edit, frame by frame."""
    frames, inversion = source.frames, source.inversion
    labels = config.clip.prompt, config.edit.prompt
    with results.ResultWriter(
        folder, config.output, source.video, frames, inversion.times, inversion.end, source.resize, labels
    ) as writer:
        for index, frame in enumerate(edited):
            writer.write(frame)
            if metrics is not None:
                inside = None if frame.decoded_mask is None else (frame.decoded_mask > 0).astype(np.float64)
                metrics.add(frames[index], frame.decoded, inside)


def _report(
    config: Config,
    source: InvertedClip,
    stored: StoredInversion,
    reconstruction: dict[str, Any] | None,
    metrics: EditMetrics | None,
) -> dict[str, Any]:
    """Everything of report.json but the times and memory."""
    figures: dict[str, Any] = {} if metrics is None else metrics.figures()
    if reconstruction is not None:
        figures = {"reconstruction": reconstruction["reconstruction"], **figures}
    return {
        "settings": config.model_dump(mode="json"),
        "frames": source.frame_count,
        "cuts": list(source.cuts),
        "inversion": {
            "folder": stored.folder.name,
            "steps": source.steps,
            "iterations": stored.made_from["iterations"],
        },
        "model": {
            "weights_mb": round(source.model.weight_bytes / 2**20, 1),
            "quantization": config.model.quantization,
            "text_encoder_quantization": config.model.text_encoder_quantization,
        },
        "classifier": classifier_of(config),
        "metrics": figures,
        "over_time": {} if metrics is None else metrics.over_time(),
        "versions": report.versions(),
    }


def _has_region(content: Mapping[str, Any]) -> bool:
    return any(not region["everywhere"] for region in content.get("regions", []))


def _result(config: Config, content: dict[str, Any]) -> EditResult:
    output = config.output
    return EditResult(
        video=output.dir / results.edited_name(output),
        comparison=output.dir / results.comparison_name(output) if output.comparison else None,
        region=output.dir / results.region_name(output) if _has_region(content) else None,
        contact_sheet=output.dir / results.CONTACT_SHEET if output.contact_sheet else None,
        page=output.dir / results.PAGE if output.page else None,
        report=content,
    )
