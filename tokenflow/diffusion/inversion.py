"""DDIM inversion: clean latents to the noise that samples back to them. Knows no file and no clip.

One step a yield, so that the caller can save each and go on from any of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents, Scratch, in_memory
from tokenflow.diffusion.schedules import CLEAN, Schedule, Step, ddim_step, noise_between

PredictNoise = Callable[[Tensor, int], Tensor]
"""(latents f c h w, time step) -> the noise in them, f c h w."""

Level = tuple[int, Latents]
"""A time step (or `CLEAN`), and the latents f c h w at it."""

Part = tuple[int, Tensor]
"""A time step, and the latents of some frames at it."""

LEVELS_READ = 3
"""How many levels a step looks back on."""


def invert(
    levels: Sequence[Level],
    steps: Sequence[Step],
    predict: PredictNoise,
    schedule: Schedule,
    *,
    batch_size: int,
    iterations: int = 1,
    scratch: Scratch = in_memory,
) -> Iterator[Level]:
    """Add the noise that sampling would take away, yielding each noisier level once all frames have reached it.

    A step of sampling goes from x_t to x_s with the noise ε(x_t, t). To go back, that noise has to be known before
    x_t is. The code of Plug-and-Play and TokenFlow puts ε(x_s, t) in its place (Dhariwal & Nichol, 2021, appendix F).
    Here a first guess is drawn through the noise of the two steps before, and each iteration replaces it with ε at the
    x_t that it leads to; at the fixed point sampling is the exact inverse (Pan et al., ICCV 2023). One iteration on
    this guess comes as close as two network calls a step do from ε(x_s, t). Where the guess is poor or its error counts
    most, at the second step and at the noisiest, there is one iteration more; at the first, which hardly moves the
    latents, one less (docs/speed.md).

    The past is read from the levels alone, so that an interrupted inversion goes on exactly as it would have.

    Args:
        levels: the level to go on from, last, and up to two cleaner ones before it, cleanest first.
        steps: steps of sampling, noisiest first, as `schedule.steps` gives them; walked from last to first.
        predict: gives the noise of some frames at a time step.
        schedule: gives the noise levels.
        batch_size: frames a prediction.
        iterations: predictions a step, at least 1; two steps take one more.
        scratch: where the levels that are yielded rest; three of them are held at a time.
    """
    levels = list(levels[-LEVELS_READ:])
    for step in reversed(steps):
        latents = levels[-1][1]
        noisier = scratch((len(latents), *latents[[0]].shape[1:]))
        for frames in batches(range(len(latents)), batch_size):
            part = [(timestep, stored[frames]) for timestep, stored in levels]
            noisier[frames] = _one_step(part, step, predict, schedule, iterations)
        levels = [*levels[1 - LEVELS_READ :], (step.timestep, noisier)]
        yield levels[-1]


def _one_step(levels: Sequence[Part], step: Step, predict: PredictNoise, schedule: Schedule, iterations: int) -> Tensor:
    level, latents = levels[-1]
    between = schedule.alpha(step.next_timestep), schedule.alpha(step.timestep)
    noises = _noises_before(levels, schedule)
    noise = _extrapolated(noises, _log_sigma(between[1])) if noises else predict(latents, step.timestep)
    if level == CLEAN:
        iterations -= 1
    else:
        iterations += (len(noises) < 2) + (step.index == 0)
    for _ in range(iterations):
        noise = predict(ddim_step(latents, noise.to(latents), *between), step.timestep)
    return ddim_step(latents, noise.to(latents), *between)


def _noises_before(levels: Sequence[Part], schedule: Schedule) -> list[tuple[float, Tensor]]:
    """log σ that each step between these levels came to, and the noise that it took; at most two."""
    return [
        (_log_sigma(schedule.alpha(to)), noise_between(cleaner, noisier, schedule.alpha(at), schedule.alpha(to)))
        for (at, cleaner), (to, noisier) in pairwise(levels)
        if schedule.alpha(at) != schedule.alpha(to)  # as they are where the clean level is the first time step's
    ]


def _extrapolated(noises: Sequence[tuple[float, Tensor]], log_sigma: float) -> Tensor:
    """The noise at a level by the line, over log σ, through the two before; where there is one, that one."""
    if len(noises) == 1:
        return noises[0][1]
    (before, older), (now, newer) = noises
    return newer + (newer - older) * ((log_sigma - now) / (now - before))


def _log_sigma(alpha: float) -> float:
    """The logarithm of noise over signal, √((1−ᾱ)/ᾱ), in which ε changes most evenly (Lu et al., NeurIPS 2022)."""
    return 0.5 * math.log((1 - alpha) / alpha)
