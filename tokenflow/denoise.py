"""The sampling loop. Knows the schedule; mode, model and propagation are for it the one `predict` that it is given.

The loop yields; its caller saves and draws the progress bar.
"""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from tokenflow.schedule import Schedule, Step, ddim_step

Predict = Callable[[Tensor, Step], Tensor]
"""(latents f c h w, step) -> the noise in them, f c h w, guided and injected as it may be."""


def denoise(latents: Tensor, steps: Sequence[Step], predict: Predict, schedule: Schedule) -> Iterator[Tensor]:
    """Sample from noisy latents to clean ones, yielding the latents (f c h w) after each step.

    Args:
        latents: f c h w at the noise level of the first step.
        steps: the steps to take, noisiest first; a tail of `schedule.steps(count)`.
        predict: gives the noise.
        schedule: gives the noise levels.
    """
    for step in steps:
        noise = predict(latents, step)
        latents = ddim_step(latents, noise, schedule.alpha(step.timestep), schedule.alpha(step.next_timestep))
        yield latents
