"""What an edit takes of its device's memory, counted by the shapes of its tensors before anything is loaded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import torch

from tokenflow.config import Config, Edit
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.diffusion.batches import as_tensor, image_batches
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError, ModelError
from tokenflow.events import notice
from tokenflow.models.blank import blank_model, stored_weights
from tokenflow.models.model import Model
from tokenflow.models.placement import choose_device
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.disk_space import dimensions
from tokenflow.pipeline.references import checked_references, references_of
from tokenflow.pipeline.sampling import referring
from tokenflow.pipeline.wiring import (
    build_guidance,
    build_mode,
    build_propagation,
    keyframe_interval,
)
from tokenflow.propagation import EditDenoiser
from tokenflow.propagation.keyframes import ANCHORS
from tokenflow.report.live_bytes import LiveBytes
from tokenflow.report.units import format_bytes
from tokenflow.store.memory import MemoryInversion
from tokenflow.video import Video

AMPLE_PER_PIXEL = 20_000
"""Bytes per pixel of the frames that go through a network at once: several times what any family takes (1,100 in the
UNet of SDXL, 5,500 in its autoencoder). Where a device has them, nothing needs to be counted."""

AMPLE = 2
"""Times the weights, likewise: files in half precision may be loaded in full."""

TOLERANCE = 1.2
"""How many times the memory of a device an estimate is at least where the edit certainly does not fit."""

LESS = (
    "set model.offload=true, edit.keyframe_window=4, edit.batch_size=2 and inversion.batch_size=2, or a smaller "
    "clip.size (docs/small_cards.md)"
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the device that the networks work on.

    Attributes:
        weights: by part of the model.
        denoiser: those of the network that predicts.
        stages: of all other tensors at the peak of each stage: text, encode, invert, edit and decode.
        offload: whether only the part at work is there.
    """

    weights: Mapping[str, int]
    denoiser: int
    stages: Mapping[str, int]
    offload: bool

    @property
    def all_weights(self) -> int:
        """Of all parts."""
        return sum(self.weights.values())

    @property
    def peak(self) -> int:
        """The most that is there at once."""
        if not self.offload:
            return self.all_weights + max(self.stages.values())
        text = max(size for part, size in self.weights.items() if part.startswith("text_encoder"))
        at_work = {
            "text": text,
            "encode": self.weights["vae"],
            "decode": self.weights["vae"],
            "invert": self.denoiser,
            "edit": self.denoiser,
        }
        return max(at_work[stage] + size for stage, size in self.stages.items())


def estimate_memory(config: Config, frames: int, size: tuple[int, int]) -> MemoryEstimate | None:
    """What an edit takes; None where the configuration of its model is not on this machine.

    A pass of each kind goes through the networks without any values, in the mode and with the settings of the edit. A
    ControlNet counts by its weights. References that are read by attention are left out: how much of them counts
    depends on values.

    Args:
        config: of the clip and its edit.
        frames: of the clip.
        size: working size in pixels, width and height.

    Raises:
        ModelError: the model is of a family that is not supported, or its configuration is damaged.
        ConfigError: the device does not exist on this machine.
    """
    blank = blank_model(config.model)
    if blank is None:
        return None
    edit, prompt = config.edit, config.clip.prompt
    if edit.mode in ("controlnet", "keyframes"):  # the network fills in what keyframes do not show from noise, too
        edit = edit.model_copy(update={"mode": "sdedit"})
    schedule = blank.model.schedule
    is_inverted = config.edit.needs_inversion and schedule.few_step is None
    inverted = [step.at for step in schedule.steps(config.inversion.steps, tokens=1)] if is_inverted else []
    steps = schedule.steps(edit.steps, tokens=1)
    count, interval = _to_count(edit, frames)
    stages = {}
    with blank.fake:
        with LiveBytes() as counted:
            conditioning = blank.model.condition(prompt, size=size)
        stages["text"] = counted.peak
        source = _blank_clip(blank.model, conditioning, prompt, count, size, [schedule.clean, *inverted])
        stages["encode"] = _encoding(source, config.inversion.batch_size)
        if is_inverted:
            stages["invert"] = _prediction(source, config.inversion.batch_size)
        stages["edit"] = _edit(source, edit.model_copy(update={"keyframe_interval": interval}), steps)
        stages["decode"] = _decoding(source, edit.batch_size)
    control = _control_weights(config.edit)
    return MemoryEstimate({**blank.weights, **control}, blank.denoiser, stages, config.model.offload)


def device_memory(config: Config) -> int:
    """Bytes of the device that a configuration names: of the GPU, or main memory.

    Raises:
        ConfigError: it does not exist on this machine.
    """
    device = choose_device(config.model.device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return torch.mps.recommended_max_memory() if device.type == "mps" else psutil.virtual_memory().total


def check_memory(config: Config) -> None:
    """Say before the work if an edit takes more memory than the device has.

    Nothing is counted where the device has ample memory for it.

    Raises:
        ConfigError: it takes much more, on a GPU.
    """
    available = device_memory(config)
    frames, *size = dimensions(config)
    at_once = max(config.inversion.batch_size, config.edit.batch_size, config.edit.keyframe_window)
    try:
        if AMPLE * stored_weights(config.model) + at_once * math.prod(size) * AMPLE_PER_PIXEL < available:
            return
        estimate = estimate_memory(config, frames, (size[0], size[1]))
    except ModelError:  # loading it says what is wrong with it
        return
    if estimate is None or estimate.peak <= available:
        return
    is_gpu = choose_device(config.model.device).type != "cpu"
    whose = "the device's" if is_gpu else "main"
    text = (
        f"the edit takes about {format_bytes(estimate.peak)} of {whose} memory, which has "
        f"{format_bytes(available)}; {LESS}"
    )
    if is_gpu and estimate.peak > TOLERANCE * available:
        raise ConfigError(text)
    notice(text)


class _Still(Pairwise):
    """A correspondence of a clip in which nothing moves."""

    needs_network = False

    def find(self, first: int, second: int) -> np.ndarray:
        """No displacement, and full confidence."""
        return np.tile(np.array([0, 0, 1], np.float32), (2, 1, 1, 1))


def _to_count(edit: Edit, frames: int) -> tuple[int, int]:
    """As few frames as take what all take, a full window of keyframes and a batch of frames between; and their keyframe
    interval."""
    interval = keyframe_interval(edit, frames)
    keyframes = -(-frames // interval)
    if keyframes > edit.keyframe_window:  # the first window holds the anchors, and the next is full
        keyframes = max(edit.keyframe_window - 1, ANCHORS + 1)
    interval = min(interval, 1 + -(-edit.batch_size // keyframes))
    return min(frames, keyframes * interval), interval


def _blank_clip(
    model: Model,
    conditioning: Conditioning,
    prompt: str,
    count: int,
    size: tuple[int, int],
    levels: Sequence[Level],
) -> InvertedClip:
    """An inverted clip without values."""
    width, height = size
    frames = np.zeros((count, height, width, 3), np.uint8)
    inversion = MemoryInversion()
    inversion.write_frames((frame, Fraction(index), Fraction(1)) for index, frame in enumerate(frames))
    shape = count, model.latent_channels, height // model.pixels_per_latent, width // model.pixels_per_latent
    for level in levels:
        inversion.write_latents(level, [torch.zeros(shape, dtype=torch.float16)])
    inversion.finish()
    return InvertedClip(model, inversion, conditioning, prompt, Video(frames, rate=24), "fit", len(levels) - 1)


def _encoding(source: InvertedClip, batch_size: int) -> int:
    indices = next(image_batches(source.frame_count, batch_size, source.size))
    with LiveBytes() as counted:
        source.model.encode(as_tensor(source.frames[indices]))
    return counted.peak


def _decoding(source: InvertedClip, batch_size: int) -> int:
    indices = next(image_batches(source.frame_count, batch_size, source.size))
    latents = source.latents(source.model.schedule.clean, indices)
    with LiveBytes() as counted:
        source.model.decode(latents)
    return counted.peak


def _prediction(source: InvertedClip, batch_size: int) -> int:
    latents = source.latents(source.inversion.levels[-1], range(min(batch_size, source.frame_count)))
    with LiveBytes() as counted:
        source.model.predict(latents, source.inversion.levels[-1], source.conditioning)
    return counted.peak


def _edit(source: InvertedClip, edit: Edit, steps: Sequence[Step]) -> int:
    """Of the steps that differ in what they do."""
    model, size = source.model, source.size
    edit = edit.model_copy(update={"kept_features": "device"})
    with LiveBytes() as counted:
        guidance = build_guidance(model, edit.prompt, edit.negative_prompt, edit.guidance_scale, size)
        mode = build_mode(source, edit)
        latents, taken = mode.initial_latents(steps)
        read_by_model = edit.ip_adapter is not None or hasattr(model, "read_references")
        references = checked_references(references_of(edit), edit) if edit.references and read_by_model else []
        denoiser = referring(EditDenoiser(model, mode, guidance), references, edit, source, guidance.conditional)
        with _Still() as still:
            predict = build_propagation(denoiser, source, edit, (), (), still, None)
            for step in _kinds(taken, edit):
                for _ in predict(latents, step):
                    pass
    return counted.peak


def _kinds(steps: Sequence[Step], edit: Edit) -> list[Step]:
    """The first step, in which most is injected; the first in which frames between go through the network, too; and
    the last."""
    late = [step for step in steps if not step.ends_by(edit.propagate_edit_until)]
    return list(dict.fromkeys([steps[0], *late[:1], steps[-1]]))


def _control_weights(edit: Edit) -> dict[str, int]:
    """Bytes of the files of ControlNets in folders here."""
    if edit.mode != "controlnet":
        return {}
    return {
        f"controlnet {unit.path}": sum(path.stat().st_size for path in Path(unit.path).glob("*.safetensors"))
        for unit in edit.controlnet.units
    }
