"""The editor as diffusers' own people call one: `TokenFlowPipeline.from_pipe(pipe)(frames, prompt="…")`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from tokenflow.config import ControlNet, PnP, SDEdit
from tokenflow.diffusion.latents import WritableLatents
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError
from tokenflow.models.adapters.adapted import Adapted, Switch
from tokenflow.models.adapters.loras import lora_layers, networks
from tokenflow.models.families import FAMILIES, family_of
from tokenflow.models.model import Model
from tokenflow.pipeline.editing import edit
from tokenflow.pipeline.inversion import invert
from tokenflow.pipeline.keyframes import Keyframes
from tokenflow.video import Video

OUTPUT_TYPES = ("pil", "np", "pt")
TENSOR_INPUTS = ("latents",)

StepEnd = Callable[["TokenFlowPipeline", int, float, dict[str, Any]], dict[str, Any]]
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
    """Edits clips with the parts of a text-to-image pipeline, LoRAs that are loaded in it included.

    LoRAs act on the edit; the model without them inverts the clip.

    Args:
        pipeline: a loaded text-to-image pipeline of a supported family. Its parts are shared, and not copied.

    Raises:
        ModelError: the family is not supported.
    """

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        family_of(type(pipeline).__name__, type(pipeline).__name__)
        self._pipeline = pipeline
        self.register_modules(**pipeline.components)

    @classmethod
    def from_pipe(cls, pipeline: Any, **_: Any) -> Self:
        """The editor around a loaded pipeline."""
        return cls(pipeline)

    @property
    def components(self) -> dict[str, Any]:
        """The parts of the pipeline, by name."""
        return cast("dict[str, Any]", self._pipeline.components)

    def __call__(
        self,
        frames: Sequence[Image.Image] | np.ndarray | Tensor,
        prompt: str,
        *,
        source_prompt: str = "",
        negative_prompt: str = "",
        mode: PnP | SDEdit | ControlNet | Keyframes = PnP(),  # noqa: B008 - frozen
        num_inference_steps: int = 25,
        guidance_scale: float = 4.0,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = TENSOR_INPUTS,
        **options: Any,
    ) -> TokenFlowPipelineOutput | tuple[list[Any]]:
        """Edit the frames of a clip by a prompt, consistently over time.

        Args:
            frames: PIL images of one size, or an array f H W 3 (uint8, or in [0, 1]), or a tensor f 3 H W in [0, 1].
            prompt: what the edited clip shows.
            source_prompt: what the clip shows.
            negative_prompt: what the edited clip should not show.
            mode: what the edit keeps of its source.
            num_inference_steps: steps of inversion and of sampling; a model of few steps takes its own number.
            guidance_scale: how strongly the prompt is enforced, at least 1.
            height, width: of the box that the clip is edited in, in pixels; by default the model's native size.
            generator: its seed is that of the edit.
            output_type: `pil`, `np` or `pt`.
            return_dict: return a `TokenFlowPipelineOutput`; else a tuple with its `frames`.
            callback_on_step_end: called after each sampling step, as in diffusers' pipelines.
            callback_on_step_end_tensor_inputs: what the callback gets: `latents`.
            options: further arguments of `tokenflow.edit`.

        Raises:
            ConfigError: a value is out of range.
        """
        _check(output_type, callback_on_step_end_tensor_inputs, height, width)
        model = self._model()
        size = None if height is None or width is None else (width, height)
        clip = Video(_as_array(frames), rate=1)
        inverted = invert(clip, model, source_prompt, size=size, steps=num_inference_steps)
        steps = None if model.schedule.few_step else num_inference_steps
        seed: dict[str, Any] = {} if generator is None else {"seed": generator.initial_seed()}

        def on_step(step: Step, latents: WritableLatents) -> None:
            if callback_on_step_end is not None:
                given = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                returned = callback_on_step_end(self, step.index, step.at.time, given)
                changed = returned.get("latents", latents)
                if changed is not latents:
                    latents[list(range(len(latents)))] = changed

        edited = edit(
            inverted,
            prompt,
            mode=mode,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance_scale=guidance_scale,
            on_step=on_step,
            **seed,
            **options,
        )
        made = [_as_output(edited.frames, output_type)]
        return TokenFlowPipelineOutput(frames=made) if return_dict else (made,)

    def _model(self) -> Model:
        """The pipeline as it is now: LoRAs may be loaded, scaled or removed between two calls."""
        pipeline = self._pipeline
        model = FAMILIES[type(pipeline).__name__].model(pipeline)
        if not any(lora_layers(network) for network in networks(pipeline)):
            return model
        return cast("Model", Adapted(model, Switch(pipeline), "in the pipeline"))


def _check(output_type: str, tensor_inputs: Sequence[str], height: int | None, width: int | None) -> None:
    if output_type not in OUTPUT_TYPES:
        raise ConfigError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}")
    unknown = [name for name in tensor_inputs if name not in TENSOR_INPUTS]
    if unknown:
        raise ConfigError(f"callback_on_step_end_tensor_inputs has {unknown[0]!r}; expected {', '.join(TENSOR_INPUTS)}")
    if (height is None) != (width is None):
        raise ConfigError("one of height and width is missing; give both, or neither")


def _as_array(frames: Sequence[Image.Image] | np.ndarray | Tensor) -> np.ndarray:
    """Frames f H W 3."""
    if isinstance(frames, Tensor):
        return frames.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    if isinstance(frames, np.ndarray):
        return frames
    return np.stack([np.asarray(image.convert("RGB")) for image in frames])


def _as_output(frames: np.ndarray, output_type: str) -> Any:
    """Frames f H W 3 uint8 in the type that was asked for."""
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in frames]
    scaled = frames.astype(np.float32) / 255
    return scaled if output_type == "np" else torch.from_numpy(scaled).permute(0, 3, 1, 2)
