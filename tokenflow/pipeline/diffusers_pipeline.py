"""The editor with the interface of a diffusers pipeline: `TokenFlowPipeline.from_pipe(pipe)(frames, prompt="…")`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any, Self, cast

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from tokenflow.config import Edit, PnP
from tokenflow.diffusion.latents import WritableLatents
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError
from tokenflow.events import Cancel
from tokenflow.models.adapters.adapted import Adapted, Switch
from tokenflow.models.adapters.loras import acting_layers, lora_layers, networks
from tokenflow.models.families import FAMILIES, family_of
from tokenflow.models.model import Model
from tokenflow.models.prompt_weights import plain_text
from tokenflow.pipeline.checks import check_interval
from tokenflow.pipeline.editing import ModeSettings, edit, mode_values
from tokenflow.pipeline.inversion import invert
from tokenflow.pipeline.job import check_edit
from tokenflow.pipeline.validation import validated
from tokenflow.video import Video

OUTPUT_TYPES = ("pil", "np", "pt")
TENSOR_INPUTS = ("latents",)

ELSEWHERE = {
    "image": "frames",
    "images": "frames",
    "video": "frames",
    "steps": "num_inference_steps",
    "size": "height and width",
    "strength": "mode=tokenflow.SDEdit(strength=…)",
    "control_image": "mode=tokenflow.ControlNet(path=…)",
    "controlnet_conditioning_scale": "mode=tokenflow.ControlNet(scale=…)",
    "on_step": "callback_on_step_end",
}
"""Arguments of diffusers' pipelines and of tokenflow, and what they are called here."""

OPTIONS = {name for name, each in signature(edit).parameters.items() if each.kind is each.KEYWORD_ONLY} - {*ELSEWHERE}
"""Arguments that are passed on."""

StepEnd = Callable[["TokenFlowPipeline", int, Tensor, dict[str, Any]], dict[str, Any] | None]
"""(pipeline, index of the step, its time, {"latents": f c h w}) -> the same, in which latents may be others."""


@dataclass
class TokenFlowPipelineOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        frames: one clip, as in diffusers' video pipelines: a list of f PIL images, an array f H W 3 or a tensor
            f 3 H W, both in [0, 1].
    """

    frames: list[Any]


class TokenFlowPipeline(DiffusionPipeline):
    """Edits clips with the parts of a text-to-image pipeline, LoRAs that are on in it included.

    LoRAs act on the edit; the model without them inverts the clip. A call leaves the pipeline as it found it.

    Args:
        pipeline: a loaded text-to-image pipeline of a supported family. Its parts and all else that the editor does not
            have itself are the pipeline's own, and not copied.

    Raises:
        ConfigError: it is something else.
        ModelError: the family is not supported.
    """

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        if not isinstance(pipeline, DiffusionPipeline):
            raise ConfigError(
                f"from_pipe takes a loaded pipeline, got {pipeline!r:.80}; load it with from_pretrained first"
            )
        family_of(type(pipeline).__name__, type(pipeline).__name__)
        self._pipeline = pipeline
        self._interrupt = False
        self._num_timesteps = 0

    def __getattr__(self, name: str) -> Any:
        if name == "_pipeline":  # not there yet
            raise AttributeError(name)
        return getattr(self._pipeline, name)

    def __setattr__(self, name: str, value: Any) -> None:
        is_part = "_pipeline" in self.__dict__ and name in self._pipeline.components
        if is_part:
            setattr(self._pipeline, name, value)
        else:
            object.__setattr__(self, name, value)

    @classmethod
    def from_pipe(cls, pipeline: Any, **_: Any) -> Self:
        """The editor around a loaded pipeline."""
        return cls(pipeline)

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> Self:
        """Refused: the editor is made of a loaded pipeline.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("TokenFlowPipeline has no files of its own; load a pipeline, and use from_pipe(pipeline)")

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Refused: what there is to save is the pipeline's.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("TokenFlowPipeline has no files of its own; save the pipeline that from_pipe was given")

    def to(self, *arguments: Any, **options: Any) -> Self:
        """Move the pipeline, as its own `to` does."""
        self._pipeline.to(*arguments, **options)
        return self

    @property
    def components(self) -> dict[str, Any]:
        """The parts of the pipeline, by name."""
        return cast("dict[str, Any]", self._pipeline.components)

    @property
    def config(self) -> Any:
        """The configuration of the pipeline."""
        return self._pipeline.config

    @property
    def device(self) -> torch.device:
        """Where the pipeline is."""
        return cast("torch.device", self._pipeline.device)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the pipeline."""
        return cast("torch.dtype", self._pipeline.dtype)

    @property
    def num_timesteps(self) -> int:
        """How many steps the current call samples."""
        return self._num_timesteps

    def __call__(
        self,
        frames: Any,
        prompt: str | Sequence[str],
        *,
        source_prompt: str = "",
        negative_prompt: str | None = None,
        mode: ModeSettings = PnP(),  # noqa: B008 - frozen
        num_inference_steps: int = 25,
        guidance_scale: float = 4.0,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = TENSOR_INPUTS,
        cancel: Cancel | None = None,
        **options: Any,
    ) -> TokenFlowPipelineOutput | tuple[list[Any]]:
        """Edit a clip, with the call signature diffusers users expect.

        Args:
            frames: one clip as diffusers' video processor takes it: PIL images, f H W 3 or a list of H W 3, f 3 H W or
                a list of 3 H W tensors; uint8, or floating point in [0, 1].
            prompt: what the edited clip should show.
            source_prompt: what the clip shows.
            negative_prompt: what the edited clip should not show.
            mode: what the edit keeps of its source.
            num_inference_steps: steps of inversion and of sampling; a model of few steps takes its own number.
            guidance_scale: how strongly the prompt is enforced; none up to 1, as in diffusers.
            height, width: of the box that the clip is edited in, in pixels; by default the model's native size.
            generator: its seed is that of the edit.
            output_type: `pil`, `np` or `pt`.
            return_dict: return a `TokenFlowPipelineOutput`; else a tuple with its `frames`.
            callback_on_step_end: called after each sampling step, as in diffusers' pipelines.
            callback_on_step_end_tensor_inputs: what the callback gets: `latents`.
            cancel: asked before every network call; returning True raises `Cancelled`, as does `_interrupt = True`.
            options: further arguments of `tokenflow.edit`.

        Raises:
            ConfigError: a value is out of range, or an argument is unknown.
            ModelError: the pipeline has a scheduler or a network that is not supported.
            Cancelled: the call was interrupted.
        """
        tensor_inputs = getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs)
        _check(output_type, tensor_inputs, height, width, options)
        array = _as_array(frames)
        clip = Video(array, rate=1)
        size = None if height is None or width is None else (width, height)
        how = {
            "negative_prompt": _one(negative_prompt or "", "negative_prompt"),
            "guidance_scale": max(guidance_scale, 1.0) if isinstance(guidance_scale, int | float) else guidance_scale,
            **_seed(generator, options),
            **options,
        }
        prompt = _one(prompt, "prompt")
        self._interrupt = False

        def stops() -> bool:
            return self._interrupt or (cancel is not None and cancel())

        def on_step(step: Step, latents: WritableLatents) -> None:
            if callback_on_step_end is None:
                return
            given = dict.fromkeys(tensor_inputs, latents)
            returned = callback_on_step_end(self, step.index, torch.tensor(step.at.time), given) or {}
            changed = returned.get("latents", latents)
            if changed is not latents:
                _replace(latents, changed)

        with _left_as_it_was(self._pipeline):
            model = self._model()
            few_step = model.schedule.few_step
            steps = few_step.steps if few_step else num_inference_steps
            self._num_timesteps = steps
            _check_edit(model, len(array), prompt, source_prompt, {**mode_values(mode), "steps": steps, **how})
            inverted = invert(clip, model, source_prompt, size=size, steps=num_inference_steps, cancel=stops)
            edited = edit(inverted, prompt, mode=mode, steps=steps, on_step=on_step, cancel=stops, **how)
        made = [_as_output(edited.frames, output_type)]
        return TokenFlowPipelineOutput(frames=made) if return_dict else (made,)

    def _model(self) -> Model:
        """The pipeline as it is now: LoRAs may be loaded, scaled, switched off or removed between two calls."""
        pipeline = self._pipeline
        model = FAMILIES[type(pipeline).__name__].model(pipeline)
        if not acting_layers(pipeline):
            return model
        return cast("Model", Adapted(model, Switch(pipeline), "in the pipeline"))


@contextmanager
def _left_as_it_was(pipeline: Any) -> Iterator[None]:
    """What loading a model changes of a pipeline is put back: gradients, training, precision, and LoRAs' switches."""
    parts = networks(pipeline)
    precisions = [(part, next((each.dtype for each in part.parameters()), None)) for part in parts]
    gradients = [(each, each.requires_grad) for part in parts for each in part.parameters()]
    training = [(module, module.training) for part in parts for module in part.modules()]
    adapters = [(layer, not layer.disable_adapters) for part in parts for layer in lora_layers(part)]
    try:
        yield
    finally:
        for layer, is_on in adapters:
            layer.enable_adapters(is_on)
        for part, dtype in precisions:
            if dtype not in (None, next((each.dtype for each in part.parameters()), None)):
                part.to(dtype)
        for parameter, has_gradient in gradients:
            parameter.requires_grad_(has_gradient)
        for module, is_training in training:
            module.training = is_training


def _check(
    output_type: str, tensor_inputs: Sequence[str], height: int | None, width: int | None, options: Mapping[str, Any]
) -> None:
    if output_type not in OUTPUT_TYPES:
        raise ConfigError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}")
    unknown = [name for name in tensor_inputs if name not in TENSOR_INPUTS]
    if unknown:
        raise ConfigError(f"callback_on_step_end_tensor_inputs has {unknown[0]!r}; expected {', '.join(TENSOR_INPUTS)}")
    if (height is None) != (width is None):
        raise ConfigError("one of height and width is missing; give both, or neither")
    for name in options:
        if name in ELSEWHERE:
            raise ConfigError(f"{name} is not an argument of TokenFlowPipeline; use {ELSEWHERE[name]}")
        if name not in OPTIONS:
            raise ConfigError(f"{name} is not an argument of TokenFlowPipeline; expected one of tokenflow.edit's")


def _check_edit(model: Model, frame_count: int, prompt: str, source_prompt: str, values: Mapping[str, Any]) -> None:
    """What would otherwise be told after the inversion.

    Raises:
        ConfigError, ModelError: an edit with these values is impossible.
    """
    in_memory = ("regions", "references")
    known = {name: each for name, each in values.items() if name in Edit.model_fields and name not in in_memory}
    settings = validated(Edit, prompt=prompt, **known)
    for text in (prompt, source_prompt, settings.negative_prompt):
        plain_text(text)  # refuses negative weights
    check_interval(settings, frame_count)
    check_edit(settings, model, values.get("regions"))


def _one(prompt: Any, name: str) -> str:
    """A prompt, or the one in a list."""
    if isinstance(prompt, list | tuple) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise ConfigError(f"{name}: expected one string, got {prompt!r:.80}")
    return prompt


def _seed(generator: Any, options: Mapping[str, Any]) -> dict[str, int]:
    """The seed of the edit, if a generator says it."""
    if generator is None:
        return {}
    if isinstance(generator, list | tuple) and len(generator) == 1:
        generator = generator[0]
    if not isinstance(generator, torch.Generator):
        raise ConfigError(f"generator: expected one torch.Generator, got {generator!r:.80}")
    if "seed" in options:
        raise ConfigError("both seed and generator are given; expected one of them")
    return {"seed": generator.initial_seed()}


def _replace(latents: WritableLatents, changed: Any) -> None:
    """Write a callback's latents into those of the edit, f c h w."""
    indices = list(range(len(latents)))
    expected = tuple(latents[indices].shape)
    if not isinstance(changed, Tensor) or tuple(changed.shape) != expected:
        got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise ConfigError(f"callback_on_step_end: expected latents of shape {expected}, got {got}")
    latents[indices] = changed


def _as_array(frames: Any) -> np.ndarray:
    """Frames f H W 3, of an image, an array … H W 3, a tensor … 3 H W, or a list of these.

    Raises:
        ConfigError: they are something else, several clips, or of several sizes.
    """
    if isinstance(frames, Image.Image):
        return np.asarray(frames.convert("RGB"))[None]
    if isinstance(frames, Tensor) and frames.ndim >= 3:
        images = frames.detach().cpu()
        array: np.ndarray = (images if images.dtype == torch.uint8 else images.float()).movedim(-3, -1).numpy()
    elif isinstance(frames, list | tuple) and frames:
        parts = [_as_array(each) for each in frames]
        kinds = {(part.shape[1:], part.dtype) for part in parts}
        if len(kinds) > 1 or (len(parts) > 1 and len(parts[0]) > 1):
            shapes = sorted({str(part.shape) for part in parts})
            raise ConfigError(f"frames: expected one clip of images of one size, got {', '.join(shapes)}")
        array = np.concatenate(parts)
    elif isinstance(frames, np.ndarray) and frames.ndim >= 3:
        array = frames
    else:
        raise ConfigError(
            "frames: expected a list of images, an array of shape (frames, height, width, 3) or a tensor of shape "
            f"(frames, 3, height, width), got {frames!r:.80}"
        )
    while array.ndim > 4 and len(array) == 1:
        array = array[0]
    return array[None] if array.ndim == 3 else array


def _as_output(frames: np.ndarray, output_type: str) -> Any:
    """Frames f H W 3 uint8 in the type that was asked for."""
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in frames]
    scaled = frames.astype(np.float32) / 255
    return scaled if output_type == "np" else torch.from_numpy(scaled).permute(0, 3, 1, 2)
