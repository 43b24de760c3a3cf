"""Stage 2 in memory, for benchmarks: a clip inverted once, and methods of editing that share its inversion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import tokenflow
from benchmarks.truth import Truth
from tokenflow.config import Edit, PnP
from tokenflow.correspondence.base import Correspondence
from tokenflow.diffusion.batches import as_images, as_tensor, batches
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Predict, sample
from tokenflow.diffusion.schedules import Step
from tokenflow.models.model import Model
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.wiring import build_correspondence, build_guidance, propagation_options
from tokenflow.propagation import EditDenoiser, TokenFlow

STEPS, BATCH, SEED = 25, 8, 0
RATE = 12
"""Frames per second of the drawn clips."""

DEFAULTS = Edit(prompt="")
GUIDANCE = DEFAULTS.guidance_scale
DTYPE = "float32"
"""Precision in every benchmark but full_size, so that figures do not depend on what a processor prefers."""

T = TypeVar("T")


def pnp_denoiser(source: InvertedClip, guidance: Guidance, settings: PnP = DEFAULTS.pnp) -> EditDenoiser:
    """Plug-and-Play, by default with its default settings."""
    return EditDenoiser(source.model, PnPMode(source, settings), guidance)


def build_tokenflow(
    source: InvertedClip,
    guidance: Guidance,
    *,
    denoiser: EditDenoiser | None = None,
    correspondence: Correspondence | None = None,
    settings: Edit = DEFAULTS,
    **options: object,
) -> TokenFlow:
    """TokenFlow as the package builds it.

    Args:
        source: the clip.
        guidance: the prompts.
        denoiser: by default Plug-and-Play.
        correspondence: by default the one that the settings name.
        settings: of the edit.
        options: fields of `Propagation` that differ from those that follow from the settings.
    """
    return TokenFlow(
        denoiser or pnp_denoiser(source, guidance),
        BATCH,
        correspondence or build_correspondence(source, settings),
        replace(propagation_options(source, settings), **options),
    )


def start_from_inversion(source: InvertedClip, steps: Sequence[Step]) -> Latents:
    """The latents at the end of the inversion."""
    return source.latents_at(steps[0].at)


@dataclass(frozen=True)
class Method:
    """A way to edit an inverted clip.

    Attributes:
        build: (the clip, the prompts) -> what predicts.
        steps: of inversion and of sampling.
        start: (the clip, the steps) -> the latents that sampling starts from.
    """

    build: Callable[[InvertedClip, Guidance], Predict] = build_tokenflow
    steps: int = STEPS
    start: Callable[[InvertedClip, Sequence[Step]], Latents] = start_from_inversion


class Inverted:
    """A drawn clip and one edit of it, inverted in as many steps as a method asks for.

    Args:
        model: the model.
        truth: the clip.
    """

    def __init__(self, model: Model, truth: Truth) -> None:
        self.model = model
        self.truth = truth
        self._sources: dict[int, InvertedClip] = {}

    def source(self, steps: int) -> InvertedClip:
        """The clip inverted in so many steps, once."""
        if steps not in self._sources:
            video = tokenflow.Video(self.truth.frames, rate=RATE)
            self._sources[steps] = tokenflow.invert(
                video, self.model, self.truth.prompts[0], size=min(video.size), steps=steps, batch_size=BATCH
            )
        return self._sources[steps]

    def sample(self, method: Method) -> Latents:
        """The edit's latents."""
        source = self.source(method.steps)
        steps = sampling_steps(self.model, source.inversion, method.steps)
        guidance = build_guidance(self.model, self.truth.prompts[1], "", GUIDANCE, source.size)
        predict = method.build(source, guidance)
        *_, latents = sample(method.start(source, steps), steps, predict, self.model.schedule.parametrisation)
        return latents

    def sample_counted(self, method: Method) -> tuple[Latents, float]:
        """The same, and what it costs in plain UNet calls per frame and step, by floating-point operations."""
        source = self.source(method.steps)
        level = sampling_steps(self.model, source.inversion, method.steps)[0].at
        one = source.latents(level, [0])
        _, plain = count_flops(lambda: self.model.predict(one, level, source.conditioning))
        latents, all_calls = count_flops(lambda: self.sample(method))
        return latents, all_calls / (plain * len(self.truth.frames) * method.steps)

    def decoded(self, latents: Latents) -> np.ndarray:
        """The frames of some latents, f H W 3 uint8."""
        groups = batches(range(len(latents)), BATCH)
        return np.concatenate([as_images(self.model.decode(latents[group])) for group in groups])


def encoded(model: Model, frames: np.ndarray) -> Tensor:
    """The latents f c h w of frames f H W 3 uint8, in main memory."""
    return torch.cat([model.encode(group).cpu() for group in as_tensor(frames).split(BATCH)])


def count_flops(work: Callable[[], T]) -> tuple[T, int]:
    """The result of some work, and the floating-point operations that it takes, counted by torch.

    Adds a formula for fused attention on a CPU, which torch has for GPUs only.
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def formula(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    with FlopCounterMode(display=False, custom_mapping={attention: formula}) as counter:
        result = work()
    return result, counter.get_total_flops()
