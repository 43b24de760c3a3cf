"""The check of an inversion: sample it back, and compare the result with the source."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from torch import Tensor

from tokenflow import config, report
from tokenflow.diffusion.batches import as_images, as_tensor, batches, image_batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError, ReconstructionWarning
from tokenflow.events import Cancel, Listener, listening, notice, progress, track
from tokenflow.metrics import psnr, ssim
from tokenflow.models.interruptible import interruptible
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.validation import check_count, check_type
from tokenflow.report.profiling import Stopwatch
from tokenflow.store.files import sha256
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import VideoWriter

RECONSTRUCTION = "reconstruction.mp4"
LOSSLESS = "reconstruction.mkv"
"""The same without coding artefacts, which would add flicker and remove detail: edits are measured beside it."""

MAX_LOSS = 3.0
"""dB by which an inversion may stay below the autoencoder: with 25 steps it loses half a dB on a clip that suits the
model, and with 8 up to 4.5."""

Figures = dict[str, list[float]]
"""Values per frame, by name: many small tensors would keep the heap from shrinking."""

MAX_AUTOENCODER_FRAMES = 12
"""Frames that are decoded once more to tell what the autoencoder alone loses, which hardly differs between frames."""

GOOD_PSNR = 30.0
"""dB from which a reconstruction is good, whatever the inversion loses."""


def checked_reconstruction(
    source: InvertedClip,
    inversion: StoredInversion,
    batch_size: int,
    watch: Stopwatch,
    on_event: Listener | None,
    cancel: Cancel | None,
) -> dict[str, Any]:
    """The report of the reconstruction check; made now if it is missing, or if its videos were deleted or damaged.

    `cancel` is asked while another call makes it; the source's model asks its own.
    """
    stored = inversion.report()
    if stored is not None and is_checked(inversion):
        return stored
    with inversion.locked(cancel):
        with watch.stage("reconstruct"):
            figures = _write(source, inversion.folder, batch_size, on_event)
        content = {
            "reconstruction": figures,
            "frames": source.frame_count,
            "videos": _videos(inversion.folder),
            "versions": report.versions(),
            **watch.figures(),
        }
        inversion.write_report(content)
    return content


def is_checked(inversion: StoredInversion) -> bool:
    """Whether an inversion has a report of its check, and its videos as they were written."""
    stored = inversion.report()
    return stored is not None and stored.get("videos") == _videos(inversion.folder)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An inversion sampled back without an edit.

    Attributes:
        frames: f H W 3 uint8 at the working size.
        psnr: of the frames against the source, in dB, mean over frames; the closer to `autoencoder_psnr`, the better
            the inversion.
        autoencoder_psnr: of encoding and decoding alone; no edit can be closer to its source.
    """

    frames: np.ndarray = field(repr=False)
    psnr: float
    autoencoder_psnr: float


def reconstruct(
    inverted: InvertedClip,
    *,
    batch_size: int = config.Inversion().batch_size,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> Reconstruction:
    """Sample an inversion back without an edit: one network call per frame and step.

    Args:
        inverted: what `invert` returned.
        batch_size: frames per network call.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Raises:
        TypeError: `inverted` is not what `invert` returned.
        ConfigError: `batch_size` is below 1, or the clip was not inverted, as with a model of few steps.
        Cancelled: `cancel` returned True.
    """
    check_type("reconstruct", inverted, InvertedClip, "invert(clip, model, prompt) makes one")
    check_count("batch_size", batch_size)
    if not inverted.steps:
        why = "in 0 steps; take more" if inverted.model.schedule.few_step is None else "since its model takes few steps"
        raise ConfigError(f"expected an inversion to sample back, but this clip was not inverted ({why})")
    with listening(on_event):
        source = replace(inverted, model=interruptible(inverted.model, cancel))
        figures: Figures = {}
        frames = np.stack(list(_compared(source, batch_size, figures, on_event)))
    return Reconstruction(frames, fmean(figures["inversion_psnr"]), fmean(figures["autoencoder_psnr"]))


def _write(source: InvertedClip, folder: Path, batch_size: int, on_event: Listener | None) -> dict[str, float]:
    """Sample an inversion back, write the result as videos, and measure it against the source.

    Returns:
        Means over frames of `inversion_psnr` (dB) and `inversion_ssim`, and over at most MAX_AUTOENCODER_FRAMES of
        `autoencoder_psnr` and `autoencoder_ssim`: what the autoencoder alone reaches.
    """
    figures: Figures = {}
    width, height = source.size
    form: dict[str, Any] = {
        "width": width,
        "height": height,
        "times": source.inversion.times,
        "end": source.inversion.end,
    }
    with (
        VideoWriter(folder / RECONSTRUCTION, **form) as video,
        VideoWriter(folder / LOSSLESS, codec="ffv1", **form) as lossless,
    ):
        for image in _compared(source, batch_size, figures, on_event):
            video.write(image)
            lossless.write(image)
    return {name: round(fmean(values), 4) for name, values in figures.items()}


def _compared(
    source: InvertedClip, batch_size: int, figures: Figures, on_event: Listener | None
) -> Iterator[np.ndarray]:
    """The frames of an inversion sampled back, H W 3 uint8; what is measured on each is added to the figures."""
    latents = _sample_back(source, batch_size, on_event)
    clean = source.latents_at(source.model.schedule.clean)
    frames = source.frames
    alone = set(np.linspace(0, len(frames) - 1, min(len(frames), MAX_AUTOENCODER_FRAMES)).round().astype(int).tolist())

    def compare(name: str, images: Tensor, expected: Tensor) -> None:
        figures.setdefault(f"{name}_psnr", []).extend(psnr(images, expected).tolist())
        figures.setdefault(f"{name}_ssim", []).extend(ssim(images, expected).tolist())

    with progress("compare", len(frames), on_event) as advance:
        for indices in image_batches(len(frames), batch_size, source.size):
            restored = source.model.decode(latents[indices]).cpu()
            compare("inversion", restored, as_tensor(frames[indices]))
            sampled = [index for index in indices if index in alone]
            if sampled:
                compare("autoencoder", source.model.decode(clean[sampled]).cpu(), as_tensor(frames[sampled]))
            yield from as_images(restored)
            advance(len(indices))


def notice_poor_reconstruction(figures: dict[str, float], threshold: float) -> None:
    """Say so if the model cannot represent the clip or the inversion loses it, and what to change.

    Args:
        figures: as `reconstruct` returns them.
        threshold: PSNR in dB that the autoencoder should reach; 0 for no notice at all.
    """
    inversion, autoencoder = figures["inversion_psnr"], figures["autoencoder_psnr"]
    if autoencoder < threshold:
        notice(
            f"the autoencoder alone reaches {autoencoder:.1f} dB PSNR, below inversion.warn_below_psnr = "
            f"{threshold:g}; this model cannot represent the clip: try another model.path or a larger clip.size",
            ReconstructionWarning,
        )
    elif threshold and inversion < min(autoencoder - MAX_LOSS, GOOD_PSNR):
        notice(
            f"the inversion reconstructs the source with {inversion:.1f} dB PSNR, {autoencoder - inversion:.1f} dB "
            "below the autoencoder; try more inversion.steps or inversion.iterations, or a clip.prompt that describes "
            "the clip better",
            ReconstructionWarning,
        )


def _sample_back(source: InvertedClip, batch_size: int, on_event: Listener | None) -> Latents:
    model, conditioning = source.model.base, source.conditioning
    steps = sampling_steps(model, source.inversion, source.steps)

    def predict(latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        for indices in batches(range(len(latents)), batch_size):
            yield indices, model.predict(latents[indices], step.at, conditioning)[0]

    start = source.latents_at(steps[0].at)
    loop = sample(start, steps, predict, model.schedule.parametrisation, source.inversion.scratch)
    *_, latents = track(loop, "reconstruct", on_event, total=len(steps))
    return latents


def _videos(folder: Path) -> dict[str, str]:
    """Checksums of the reconstruction's videos that exist, by name."""
    paths = [folder / name for name in (RECONSTRUCTION, LOSSLESS)]
    return {path.name: sha256(path) for path in paths if path.is_file()}
