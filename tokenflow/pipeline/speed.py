"""How long a run takes on this machine, from one timed call of each kind of work in it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tokenflow.config import Config
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.diffusion.batches import image_batches
from tokenflow.metrics import EditMetrics
from tokenflow.models.model import Model
from tokenflow.pipeline.stages import AUTOENCODER, DECODING, NETWORK, STAGES


@dataclass(frozen=True)
class Speed:
    """Seconds per frame.

    Attributes:
        network: of a network call, one branch.
        encode: of encoding; decoding takes `DECODING` times that.
        flow: of the flow to the next frame and back.
        measure: of measuring an edited frame.
    """

    network: float
    encode: float
    flow: float
    measure: float

    def seconds(self, stages: Sequence[str], work: Mapping[str, float], frames: int, *, measured: bool) -> float:
        """Of a run through some stages.

        Args:
            stages: those of the run.
            work: of each per frame, as `stages.work` gives it.
            frames: of the clip.
            measured: whether edits are measured.
        """
        units = {NETWORK: self.network, AUTOENCODER: self.encode, None: 0.0}
        per_frame = sum(work[stage] * units[STAGES[stage]] for stage in stages)
        per_frame += self.flow * ("flow" in stages) + self.measure * (measured and "decode" in stages)
        return frames * per_frame


def measure_speed(config: Config, model: Model, frames: Sequence[np.ndarray]) -> Speed:
    """Time one call of each kind, after one that warms up.

    Args:
        config: of the edit.
        model: the model that it names.
        frames: two or more of the clip at the working size, H W 3 uint8.
    """
    height, width = frames[0].shape[:2]
    base, size, batch = model.base, (width, height), config.inversion.batch_size
    conditioning = base.condition(config.clip.prompt, size=size)
    side = model.pixels_per_latent
    latents = torch.zeros(batch, model.latent_channels, height // side, width // side)
    level = base.schedule.steps(config.inversion.steps, tokens=1)[0].at
    decoded = len(next(image_batches(batch, config.edit.batch_size, size)))
    stack = np.stack(frames[:2])
    flow = FlowCorrespondence(stack, height // side, width // side)
    metrics = EditMetrics()
    metrics.add(stack[0], stack[0])
    return Speed(
        network=_timed(lambda: base.predict(latents, level, conditioning).cpu()) / batch,
        encode=_timed(lambda: model.decode(latents[:decoded]).cpu()) / decoded / DECODING,
        flow=_timed(lambda: flow.find_step(0, 1)),
        measure=_timed(lambda: metrics.add(stack[1], stack[1])),
    )


def _timed(call: Callable[[], object]) -> float:
    """Seconds of a second call."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
