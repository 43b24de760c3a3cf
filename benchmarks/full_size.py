"""What both stages cost at full size: Stable Diffusion 1.5 at 512² and XL at 1024², with random weights.

The clip is a drawn one, enlarged. Stage 1 is `tokenflow.invert` and stage 2 `tokenflow.edit`, both in memory, with
encoding, flow and decoding. `benchmarks.gpu` runs the measurements in the order of `PLAN`, the most valuable first.
"""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tokenflow
from benchmarks.published import PublishedTokenFlow
from benchmarks.random_models import NARROW_SD15, NARROW_SDXL, SD15, SDXL, random_pipeline
from benchmarks.sampling import BATCH, GUIDANCE, RATE, SEED
from benchmarks.truth import Resized, shipped
from tokenflow.config import PnP
from tokenflow.diffusion.sampling import sample
from tokenflow.models.compiling import compile_blocks
from tokenflow.models.placement import choose_dtype
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.frames import decode
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.wiring import build_guidance
from tokenflow.report.profiling import Stopwatch

LIKE = Path("data/models/mini-sd")
"""Whose tokenizer and scheduler the random models take."""

FAMILIES = {each.name: each for each in (SD15, SDXL)}
NARROW_FAMILIES = {each.name: each for each in (NARROW_SD15, NARROW_SDXL)}


@dataclass(frozen=True)
class Measurement:
    """One edit to be timed.

    Attributes:
        model: the family's name.
        steps: of both stages.
        settings: what differs from the defaults, as the table shows it.
        batch_size: frames per network call.
        edit: further arguments of `tokenflow.edit`.
        offload: keep idle parts in main memory.
        tiling: encode and decode in tiles.
        compile: compile the UNet's blocks.
        published: edit in the published cost structure instead.
    """

    model: str
    steps: int
    settings: str = ""
    batch_size: int = BATCH
    edit: Mapping[str, Any] = field(default_factory=dict)
    offload: bool = False
    tiling: bool = False
    compile: bool = False
    published: bool = False

    @property
    def name(self) -> str:
        """The model, the steps and the settings."""
        return ", ".join(filter(None, [self.model, f"{self.steps} steps", self.settings]))


FEW, MANY = 4, 25
FULL_WINDOW = {"keyframe_interval": 3}
"""Of 24 frames as many keyframes as a window holds, as in longer clips."""

LOW_MEMORY: dict[str, Any] = {
    "settings": "low memory",
    "batch_size": 2,
    "edit": {**FULL_WINDOW, "keyframe_window": 4},
    "offload": True,
    "tiling": True,
}
PLAN = (
    Measurement(SD15.name, FEW),
    Measurement(SD15.name, MANY),
    Measurement(SDXL.name, FEW),
    Measurement(SDXL.name, MANY),
    Measurement(SDXL.name, FEW, **LOW_MEMORY),
    Measurement(SDXL.name, MANY, "compiled", compile=True),
    Measurement(SD15.name, MANY, "per frame", edit={"propagation": "none"}),
    Measurement(SD15.name, MANY, "published structure", published=True),
    Measurement(SD15.name, FEW, "full window", edit=FULL_WINDOW),
    Measurement(SD15.name, FEW, "full window, batch_size=2", batch_size=2, edit=FULL_WINDOW),
    Measurement(SD15.name, FEW, "full window, keyframe_window=4", edit={**FULL_WINDOW, "keyframe_window": 4}),
    Measurement(SD15.name, FEW, "full window, offload", offload=True, edit=FULL_WINDOW),
    Measurement(SD15.name, FEW, **LOW_MEMORY),
    Measurement(SD15.name, MANY, "compiled", compile=True),
    Measurement(SDXL.name, MANY, "per frame", edit={"propagation": "none"}),
)
"""The most valuable first."""


class FullSize:
    """A random model and a clip of its size, to be measured.

    Args:
        name: the family's.
        device: where it works.
        narrow: take narrow networks and few pixels, to try it out.
    """

    def __init__(self, name: str, device: torch.device, *, narrow: bool = False) -> None:
        family = (NARROW_FAMILIES if narrow else FAMILIES)[name]
        clip = shipped("dog_walk", "tiger")
        self.name = name
        self._truth = Resized(clip.clip, clip.target, family.side)
        self._video = tokenflow.Video(self._truth.frames, rate=RATE)
        self._device = device
        self._pipeline = random_pipeline(family, LIKE, device, choose_dtype("auto", device))
        self._warm_up()

    def measure(self, measurement: Measurement) -> dict[str, float | None]:
        """Seconds per frame and peak memory on the GPU (MiB; None without one) of both stages; frames per second."""
        model = self._model(measurement)
        if measurement.compile:  # what compiling takes is not measured
            compile_blocks(model.blocks)
            self._edit(self._invert(model, 2, measurement.batch_size), measurement)
        watch = Stopwatch(self._device)
        with watch.stage("invert"):
            inverted = self._invert(model, measurement.steps, measurement.batch_size)
        with watch.stage("edit"):
            self._edit(inverted, measurement)
        figures = watch.figures()
        seconds, peaks = figures["seconds"], figures.get("stage_peak_gpu_memory_mb", {})
        frames = inverted.frame_count
        return {
            "invert_s_per_frame": seconds["invert"] / frames,
            "edit_s_per_frame": seconds["edit"] / frames,
            "edit_frames_per_s": frames / seconds["edit"],
            "invert_gpu_mb": peaks.get("invert"),
            "edit_gpu_mb": peaks.get("edit"),
        }

    def _warm_up(self) -> None:
        """One step of both stages: the first call of each kernel is slow."""
        once = Measurement(self.name, 1)
        self._edit(self._invert(self._model(once), once.steps, once.batch_size), once)

    def _model(self, measurement: Measurement) -> StableDiffusion:
        """The pipeline, placed as the measurement says, with nothing else on the device."""
        vae = self._pipeline.vae
        (vae.enable_tiling if measurement.tiling else vae.disable_tiling)()
        for network in self._pipeline.components.values():
            if isinstance(network, nn.Module):
                for module in network.modules():
                    vars(module).pop("forward", None)  # as it was before it was compiled
                network.to("cpu" if measurement.offload else self._device)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return StableDiffusion(self._pipeline, device=self._device, offload=measurement.offload)

    def _invert(self, model: StableDiffusion, steps: int, batch_size: int) -> InvertedClip:
        prompt, side = self._truth.prompts[0], self._truth.side
        return tokenflow.invert(self._video, model, prompt, size=side, steps=steps, batch_size=batch_size)

    def _edit(self, inverted: InvertedClip, measurement: Measurement) -> None:
        prompt = self._truth.prompts[1]
        if measurement.published:
            edit_as_published(inverted, prompt, measurement.batch_size)
        else:
            tokenflow.edit(inverted, prompt, batch_size=measurement.batch_size, **measurement.edit)


def edit_as_published(source: InvertedClip, prompt: str, batch_size: int) -> None:
    """Edit and decode a clip by Plug-and-Play in the published cost structure."""
    guidance = build_guidance(source.model, prompt, "", GUIDANCE, source.size)
    steps = sampling_steps(source.model, source.inversion, source.steps)
    predict = PublishedTokenFlow(source, PnP(), guidance, batch_size, SEED)
    parametrisation = source.model.schedule.parametrisation
    *_, latents = sample(source.latents_at(steps[0].at), steps, predict, parametrisation)
    for _ in decode(source, latents, batch_size, None):
        pass
