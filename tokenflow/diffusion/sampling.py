"""The sampling loop. Knows the schedule; mode, model and propagation are for it the one `predict` that it is given.

The loop yields; its caller saves and draws the progress bar. Latents rest where `scratch` puts them; only the frames
in hand are in memory and on the model's device.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from tokenflow.diffusion.latents import Latents, Scratch, in_memory
from tokenflow.diffusion.schedules import Schedule, Step, ddim_step

Predict = Callable[[Latents, Step], Iterable[tuple[list[int], Tensor]]]
"""(latents f c h w, step) -> some frames and the noise in them (g c h w), guided and injected as it may be, until every
frame has come once."""


def sample(
    latents: Latents, steps: Sequence[Step], predict: Predict, schedule: Schedule, scratch: Scratch = in_memory
) -> Iterator[Latents]:
    """Sample from noisy latents to clean ones, yielding the latents (f c h w) after each step.

    Args:
        latents: f c h w at the noise level of the first step.
        steps: the steps to take, noisiest first; a tail of `schedule.steps(count)`.
        predict: gives the noise.
        schedule: gives the noise levels.
        scratch: where latents rest between steps.
    """
    shape = len(latents), *latents[[0]].shape[1:]
    for step in steps:
        levels = schedule.alpha(step.timestep), schedule.alpha(step.next_timestep)
        cleaner = scratch(shape)
        for frames, noise in predict(latents, step):
            noisier = latents[frames]
            cleaner[frames] = ddim_step(noisier, noise.to(noisier), *levels)
        latents = cleaner
        yield latents
