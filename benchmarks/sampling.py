"""Stage 2 in memory, for benchmarks of speed: a clip inverted once, and methods of editing that share its inversion."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.truth import Truth
from tokenflow.config import Edit
from tokenflow.config import PnP as Settings
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.diffusion.batches import as_images, as_tensor
from tokenflow.diffusion.inversion import invert
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Predict, sample
from tokenflow.diffusion.schedules import CLEAN
from tokenflow.models.model import Model
from tokenflow.modes.mode import InvertedClip
from tokenflow.modes.pnp import PnP
from tokenflow.pipeline.editing import DEFAULT_INTERVAL
from tokenflow.propagation import EditDenoiser, Guidance, TokenFlow
from tokenflow.store.inversions import StoredInversion

STEPS, BATCH, SEED = 25, 8, 0
DEFAULTS = Edit(prompt="")
GUIDANCE = DEFAULTS.guidance_scale
DTYPE = "float32"
"""Of the models in every benchmark but full_size: figures do not depend on what a machine's processor multiplies in."""
T = TypeVar("T")


def editing(source: InvertedClip, guidance: Guidance, settings: Settings | None = None) -> EditDenoiser:
    """Plug-and-Play, by default with its default settings."""
    return EditDenoiser(source.model, PnP(source, settings or Settings()), guidance)


def ours(
    source: InvertedClip, guidance: Guidance, *, editing_with: EditDenoiser | None = None, **changes: object
) -> TokenFlow:
    """TokenFlow as tokenflow does it, with arguments of `TokenFlow` changed."""
    height, width = source.latents(CLEAN, [0]).shape[-2:]
    options: dict = {
        "correspondence": FlowCorrespondence(source.frames, height, width),
        "interval": DEFAULT_INTERVAL,
        "window": DEFAULTS.keyframe_window,
        "extended": DEFAULTS.extended_attention,
        "seed": SEED,
        "carry_guidance": True,
        "carried_until": DEFAULTS.propagate_edit_until,
        **changes,
    }
    return TokenFlow(editing_with or editing(source, guidance), BATCH, **options)


@dataclass(frozen=True)
class Method:
    """A way to edit an inverted clip.

    Attributes:
        build: (the clip, the prompts) -> what gives the noise.
        steps: of inversion and of sampling.
    """

    build: Callable[[InvertedClip, Guidance], Predict] = ours
    steps: int = STEPS


class Inverted:
    """A drawn clip and one edit of it, with its trajectory for each number of steps that is asked for.

    Args:
        model: the model.
        truth: the clip.
        folder: where trajectories go.
    """

    def __init__(self, model: Model, truth: Truth, folder: Path) -> None:
        self.model = model
        self.truth = truth
        self._folder = folder
        self._sources: dict[int, InvertedClip] = {}

    def source(self, steps: int) -> InvertedClip:
        """The clip as stage 1 leaves it."""
        if steps not in self._sources:
            self._sources[steps] = self._invert(steps)
        return self._sources[steps]

    def predict(self, method: Method) -> Predict:
        """A method, ready for this edit."""
        guidance = Guidance(self.model.encode_prompt(self.truth.prompts[1]), self.model.encode_prompt(""), GUIDANCE)
        return method.build(self.source(method.steps), guidance)

    def sample(self, method: Method) -> Latents:
        """The edit's latents."""
        source = self.source(method.steps)
        start, steps = PnP(source, Settings()).start(self.model.schedule.steps(method.steps))
        *_, latents = sample(start, steps, self.predict(method), self.model.schedule)
        return latents

    def sample_counted(self, method: Method) -> tuple[Latents, float]:
        """The same, and what it costs in plain UNet calls a frame and step, in floating-point operations."""
        one = self.source(method.steps).latents(CLEAN, [0])
        conditioning = self.model.encode_prompt(self.truth.prompts[0])
        _, plain = flops(lambda: self.model.predict(one, 500, conditioning))
        latents, all_calls = flops(lambda: self.sample(method))
        return latents, all_calls / (plain * len(self.truth.frames) * method.steps)

    def decoded(self, latents: Latents) -> np.ndarray:
        """The frames of some latents, f H W 3 uint8."""
        frames = range(len(latents))
        groups = [list(frames[start : start + BATCH]) for start in frames[::BATCH]]
        return np.concatenate([as_images(self.model.decode(latents[group])) for group in groups])

    def _invert(self, count: int) -> InvertedClip:
        prompt = self.model.encode_prompt(self.truth.prompts[0])
        trajectory = StoredInversion(self._folder / str(count), {})
        frames = self.truth.frames
        trajectory.write_frames((frame, Fraction(index), Fraction(1)) for index, frame in enumerate(frames))
        clean = encoded(self.model, frames)
        trajectory.write_latents(CLEAN, [clean])

        def predict(latents: Tensor, timestep: int) -> Tensor:
            return self.model.predict(latents, timestep, prompt)[0]

        schedule = self.model.schedule
        for timestep, latents in invert([(CLEAN, clean)], schedule.steps(count), predict, schedule, batch_size=BATCH):
            trajectory.write_latents(timestep, [latents])
        return InvertedClip(self.model, trajectory, trajectory.frames(), prompt)


def encoded(model: Model, frames: np.ndarray) -> Tensor:
    """The latents f c h w of frames f H W 3 uint8, in main memory."""
    return torch.cat([model.encode(group).cpu() for group in as_tensor(frames).split(BATCH)])


def flops(work: Callable[[], T]) -> tuple[T, int]:
    """The result of some work, and the floating-point operations that it takes, counted by torch.

    To torch's formulas comes that of fused attention on a CPU, which it has for GPUs alone.
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def formula(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    with FlopCounterMode(display=False, custom_mapping={attention: formula}) as counter:
        result = work()
    return result, counter.get_total_flops()


def table(rows: list[dict[str, object]]) -> str:
    """Rows of the same columns as Markdown."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [f"{row[column]:.3f}" if isinstance(row[column], float) else str(row[column]) for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
