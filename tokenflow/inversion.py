"""DDIM inversion: clean latents to the noise that samples back to them. Knows no file and no clip.

One step a yield, so that the caller can save each and go on from any of them.
"""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from tokenflow.schedule import Schedule, Step, ddim_step

PredictNoise = Callable[[Tensor, int], Tensor]
"""(latents f c h w, time step) -> the noise in them, f c h w."""


def invert(
    latents: Tensor, steps: Sequence[Step], predict: PredictNoise, schedule: Schedule, refinements: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Add the noise that sampling would take away, yielding (time step, latents f c h w) after each step.

    A step of sampling goes from x_t to x_s with the noise ε(x_t, t). To go back, ε(x_s, t) stands in for it, as in
    the code of Plug-and-Play and TokenFlow (DDIM inversion: Dhariwal & Nichol, 2021, appendix F). Each refinement
    replaces it with ε at the x_t just found; at the fixed point sampling is the exact inverse (Pan et al., ICCV 2023).

    Args:
        latents: f c h w at the level `steps[-1].next_timestep`: clean, or where an interrupted inversion stopped.
        steps: steps of sampling, noisiest first, as `schedule.steps` gives them; walked from last to first.
        predict: gives the noise at latents and a time step.
        schedule: gives the noise levels.
        refinements: how often to refine each step's noise; each costs one more prediction.
    """
    for step in reversed(steps):
        levels = schedule.alpha(step.next_timestep), schedule.alpha(step.timestep)
        noisier = ddim_step(latents, predict(latents, step.timestep), *levels)
        for _ in range(refinements):
            noisier = ddim_step(latents, predict(noisier, step.timestep), *levels)
        latents = noisier
        yield step.timestep, latents
