"""Inversion: clean latents to the noise that samples back to them, one level per yield."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents, Scratch, in_memory
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.parametrisation import Parametrisation
from tokenflow.diffusion.schedules import Step

PredictAt = Callable[[Tensor, Level], Tensor]
"""(latents f c h w, their level) -> the network's prediction, f c h w."""

LatentsAt = tuple[Level, Latents]
"""A level, and the latents f c h w of all frames at it."""

LEVELS_READ = 3
"""How many levels a step looks back on."""

STORED_DTYPE = torch.float16
"""Of the latents behind the first noisy level. It holds them to 0.05 %, bfloat16 only to 0.4 %. The clean latents and
those of the first noisy level differ so little that they stay in float32: their difference is the first noise."""


def invert_latents(
    levels: Sequence[LatentsAt],
    steps: Sequence[Step],
    predict: PredictAt,
    parametrisation: Parametrisation,
    *,
    batch_size: int,
    iterations: int = 1,
    scratch: Scratch = in_memory,
    dtype_after: Callable[[Level], torch.dtype | None] = lambda cleaner: None,
) -> Iterator[LatentsAt]:
    """Add the noise that sampling would remove, yielding each noisier level once all frames have reached it.

    A sampling step goes from x_t to x_s with the prediction p(x_t, t). To reverse it, that prediction has to be known
    before x_t is. Plug-and-Play's and TokenFlow's code uses p(x_s, t) instead (Dhariwal & Nichol, NeurIPS 2021,
    appendix F). Here the first guess extrapolates the predictions of the two steps before, and each fixed-point
    iteration replaces it with p evaluated at the resulting x_t; at the fixed point sampling is the exact inverse (Pan
    et al., ICCV 2023). One iteration from this guess is as accurate as two network calls per step from p(x_s, t). The
    second step and the noisiest, where the guess is poor or its error counts most, take one iteration more; the first,
    which hardly moves the latents, one less (docs/speed.md).

    Everything is derived from the levels alone, so an interrupted inversion continues exactly as it would have.

    Args:
        levels: the level to continue from, last, and up to two cleaner ones before it, cleanest first.
        steps: sampling steps, noisiest first; walked from last to first.
        predict: the network.
        parametrisation: what it predicts.
        batch_size: frames per network call.
        iterations: network calls per step, at least 1; the second and the noisiest step take one more.
        scratch: allocates the levels that are yielded, of which three are alive at a time.
        dtype_after: a level -> the precision to which the latents at the next are rounded, so that storing them in it
            changes nothing; None for that of the network.
    """
    levels = list(levels[-LEVELS_READ:])
    for step in reversed(steps):
        count, shape = len(levels[-1][1]), levels[-1][1][[0]].shape[1:]
        noisier = scratch((count, *shape))
        dtype = dtype_after(levels[-1][0])
        for indices in batches(range(count), batch_size):
            part = [(level, stored[indices]) for level, stored in levels]
            latents = _one_step(part, step, predict, parametrisation, iterations)
            noisier[indices] = latents if dtype is None else latents.to(dtype).to(latents.dtype)
        levels = [*levels[1 - LEVELS_READ :], (step.at, noisier)]
        yield levels[-1]


def stored_dtype_after(cleaner: Level) -> torch.dtype:
    """The precision in which the latents at the level after this one are stored."""
    return torch.float32 if cleaner.is_clean else STORED_DTYPE


def _one_step(
    levels: Sequence[tuple[Level, Tensor]],
    step: Step,
    predict: PredictAt,
    parametrisation: Parametrisation,
    iterations: int,
) -> Tensor:
    level, latents = levels[-1]
    history = _predictions_before(levels, parametrisation)
    # f c h w all
    prediction = _extrapolate(history, parametrisation.coordinate(step.at)) if history else predict(latents, step.at)
    if level.is_clean:
        iterations -= 1
    else:
        iterations += (len(history) < 2) + (step.index == 0)
    for _ in range(iterations):
        noisier = parametrisation.step_back(latents, prediction.to(latents), step.to, step.at)
        prediction = predict(noisier, step.at)
    return parametrisation.step_back(latents, prediction.to(latents), step.to, step.at)


def _predictions_before(
    levels: Sequence[tuple[Level, Tensor]], parametrisation: Parametrisation
) -> list[tuple[float, Tensor]]:
    """Coordinate and prediction of each step between these levels; at most two."""
    return [
        (parametrisation.coordinate(to), parametrisation.between(cleaner, noisier, at, to))
        for (at, cleaner), (to, noisier) in pairwise(levels)
        if not at.has_noise_of(to)  # the clean level may have the noise of the first time step
    ]


def _extrapolate(history: Sequence[tuple[float, Tensor]], coordinate: float) -> Tensor:
    """The prediction at a coordinate on the line through the two before; with one alone, that one."""
    if len(history) == 1:
        return history[0][1]
    (before, older), (now, newer) = history
    return newer + (newer - older) * ((coordinate - now) / (now - before))
