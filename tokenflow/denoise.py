"""The sampling loop. Knows the schedule; mode, model and propagation are for it the one `predict` that it is given.

The loop yields; its caller saves and draws the progress bar. Latents stay where they are given, in main memory for a
long clip; only the frames in hand go to the model's device.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from tokenflow.schedule import Schedule, Step, ddim_step

Predict = Callable[[Tensor, Step], Iterable[tuple[list[int], Tensor]]]
"""(latents f c h w, step) -> some frames and the noise in them (g c h w), guided and injected as it may be, until every
frame has come once."""


def denoise(latents: Tensor, steps: Sequence[Step], predict: Predict, schedule: Schedule) -> Iterator[Tensor]:
    """Sample from noisy latents to clean ones, yielding the latents (f c h w) after each step.

    Args:
        latents: f c h w at the noise level of the first step.
        steps: the steps to take, noisiest first; a tail of `schedule.steps(count)`.
        predict: gives the noise.
        schedule: gives the noise levels.
    """
    for step in steps:
        levels = schedule.alpha(step.timestep), schedule.alpha(step.next_timestep)
        cleaner = torch.empty_like(latents)
        for frames, noise in predict(latents, step):
            cleaner[frames] = ddim_step(latents[frames], noise.to(latents), *levels)
        latents = cleaner
        yield latents
