"""What an edit takes of its device's memory, counted by the shapes of its tensors before anything is loaded."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, cast

import numpy as np
import psutil
import torch

from tokenflow.config import Config, ControlNet, Edit
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.diffusion.batches import as_tensor, image_batches
from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError, ModelError
from tokenflow.events import notice
from tokenflow.models.blank import BlankModel, blank_model, stored_weights
from tokenflow.models.ip_adapter import adapter_bytes
from tokenflow.models.model import Control, Model
from tokenflow.models.placement import choose_device
from tokenflow.models.quantization import weight_bytes
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.disk_space import dimensions
from tokenflow.pipeline.references import Reference
from tokenflow.pipeline.regions import prompts_of, regions_of
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
        beside: weights that stay there whatever is at work: of ControlNets and IP-Adapters.
        denoiser: those of the network that predicts.
        stages: of all other tensors at the peak of each stage: text, encode, invert, edit and decode.
        offload: whether only the part at work is there.
    """

    weights: Mapping[str, int]
    beside: int
    denoiser: int
    stages: Mapping[str, int]
    offload: bool

    @property
    def all_weights(self) -> int:
        """Of all parts, and of what is beside them."""
        return sum(self.weights.values()) + self.beside

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
        return self.beside + max(at_work[stage] + size for stage, size in self.stages.items())


def estimate_memory(config: Config, frames: int, size: tuple[int, int]) -> MemoryEstimate | None:
    """What an edit takes; None where the configuration of its model, a LoRA, a ControlNet or an IP-Adapter of it is not
    on this machine.

    A pass of each kind goes through the networks without any values, in the mode and with the settings of the edit.
    References count as those of style, which take the most, or by the weights of the IP-Adapter that reads them.
    Detectors of what ControlNets are shown are left out.

    Args:
        config: of the clip and its edit.
        frames: of the clip.
        size: working size in pixels, width and height.

    Raises:
        ModelError: the model is of a family that is not supported, its configuration is damaged, or a LoRA or a
            ControlNet does not fit it.
        ModelNotFoundError: there is no IP-Adapter at its path.
        ConfigError: the device does not exist on this machine, or does not have the quantisation.
    """
    blank = blank_model(config.model)
    beside = None if blank is None else _beside(config.edit, blank)
    if blank is None or beside is None:
        return None
    edit, prompt = config.edit, config.clip.prompt
    if edit.mode == "keyframes":  # the network fills in what keyframes do not show from noise
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
        shown = replace(source, model=cast("Model", _Controlled(blank.model, beside.controls)))
        stages["edit"] = _edit(shown, edit.model_copy(update={"keyframe_interval": interval}), steps)
        stages["decode"] = _decoding(source, edit.batch_size)
    return MemoryEstimate(blank.weights, beside.bytes, blank.denoiser, stages, config.model.offload)


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


@dataclass(frozen=True, eq=False)
class _Beside:
    """What an edit loads beside its model.

    Attributes:
        bytes: of the weights.
        controls: ControlNets without values, by path.
    """

    bytes: int
    controls: Mapping[str, Control]


def _beside(edit: Edit, blank: BlankModel) -> _Beside | None:
    """None where a part of it is not on this machine."""
    model: Any = blank.model
    taken, controls = 0, {}
    for unit in edit.controlnet.units if edit.mode == "controlnet" else ():
        if unit.path in controls:
            continue
        network = blank.control(unit.path)
        if network is None:
            return None
        taken += weight_bytes([network])
        controls[unit.path] = model.as_control(network, unit.detector, model.encode)
    if edit.ip_adapter is not None and edit.references:
        adapter = adapter_bytes(edit.ip_adapter, model.network.dtype)
        if adapter is None:
            return None
        taken += adapter
    return _Beside(taken, controls)


class _Controlled:
    """A model with ControlNets that were made before.

    Args:
        model: the model; see `Model` for the methods.
        controls: by path.
    """

    def __init__(self, model: Model, controls: Mapping[str, Control]) -> None:
        self._model = model
        self._controls = controls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def load_control(self, path: str, detector: str = "canny", beside: Collection[str] = ()) -> Control:
        """The ControlNet of that path."""
        return self._controls[path]


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
    frames = np.stack([_blank_image(size)] * count)
    inversion = MemoryInversion()
    inversion.write_frames((frame, Fraction(index), Fraction(1)) for index, frame in enumerate(frames))
    shape = count, model.latent_channels, height // model.pixels_per_latent, width // model.pixels_per_latent
    for level in levels:
        inversion.write_latents(level, [torch.zeros(shape, dtype=torch.float16)])
    inversion.finish()
    return InvertedClip(model, inversion, conditioning, prompt, Video(frames, rate=24), "fit", len(levels) - 1)


def _blank_image(size: tuple[int, int]) -> np.ndarray:
    """H W 3 uint8, of a width and height."""
    return np.zeros((*reversed(size), 3), np.uint8)


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
    edit = edit.model_copy(update={"kept_features": "device", "controlnet": _with_canny(edit.controlnet)})
    attended = edit.references if edit.ip_adapter is None else []
    with LiveBytes() as counted:
        guidance = build_guidance(model, edit.prompt, edit.negative_prompt, edit.guidance_scale, size)
        mode = build_mode(source, edit)
        latents, taken = mode.initial_latents(steps)
        references = [Reference(_blank_image(size), each.weight, "style") for each in attended]
        denoiser = _with_prompts(EditDenoiser(model, mode, guidance), edit, latents[[0]].shape[-2:])
        denoiser = referring(denoiser, references, edit, source, guidance.conditional)
        with _Still() as still:
            predict = build_propagation(denoiser, source, edit, (), (), still, None)
            for step in _kinds(taken, edit):
                for _ in predict(latents, step):
                    pass
    return counted.peak


def _with_prompts(denoiser: EditDenoiser, edit: Edit, grid: Sequence[int]) -> EditDenoiser:
    """The denoiser, with a branch for each prompt that regions have of their own, on a grid of h w latents."""
    regions = regions_of(edit)
    count = 1 if regions == "auto" else 1 + len(prompts_of(regions))
    if count == 1:
        return denoiser
    guidance = denoiser.guidance
    return replace(
        denoiser,
        guidance=guidance.with_prompts(stack([guidance.conditional] * count)),
        prompt_shares=lambda indices: torch.full((count, len(indices), 1, *grid), 1 / count),
    )


def _with_canny(controlnet: ControlNet) -> ControlNet:
    """The same ControlNets with a detector that needs no weights; images of all detectors have one shape."""
    canny = {"detector": "canny"}
    also = tuple(unit.model_copy(update=canny) for unit in controlnet.also)
    return controlnet.model_copy(update={**canny, "also": also})


def _kinds(steps: Sequence[Step], edit: Edit) -> list[Step]:
    """The first step, in which most is injected; the first in which frames between go through the network, too; and
    the last."""
    late = [step for step in steps if not step.ends_by(edit.propagate_edit_until)]
    return list(dict.fromkeys([steps[0], *late[:1], steps[-1]]))
