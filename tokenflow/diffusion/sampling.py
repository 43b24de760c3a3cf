"""The sampling loop. Model, mode and propagation are behind the one `predict` it is given."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from tokenflow.diffusion.latents import Latents, Scratch, WritableLatents, in_memory
from tokenflow.diffusion.levels import Level, at_level
from tokenflow.diffusion.parametrisation import Parametrisation, step
from tokenflow.diffusion.schedules import Step

Predict = Callable[[Latents, Step], Iterable[tuple[list[int], Tensor]]]
"""(latents f c h w, step) -> groups of frame indices and the guided prediction for them (g c h w), each frame once."""

Compose = Callable[[list[int], Tensor, Level], Tensor]
"""(frame indices, their latents g c h w after a step, the level these are at) -> latents to go on with."""


Renoise = Callable[[list[int], Step], Tensor]
"""(frame indices, step) -> the noise g c h w that their latents get after a step, in place of the estimated n̂."""


def unchanged(indices: list[int], latents: Tensor, level: Level) -> Tensor:
    """The latents as they are."""
    return latents


def sample(
    latents: Latents,
    steps: Sequence[Step],
    predict: Predict,
    parametrisation: Parametrisation,
    scratch: Scratch = in_memory,
    compose: Compose = unchanged,
    renoise: Renoise | None = None,
) -> Iterator[WritableLatents]:
    """Sample from noisy latents to clean ones, yielding the latents (f c h w) after each step.

    Only the frames of one group are in memory and on the model's device at a time.

    Args:
        latents: f c h w at the level of the first step.
        steps: the steps to take, noisiest first.
        predict: gives the prediction.
        parametrisation: what is predicted.
        scratch: allocates the latents of each step.
        compose: called after each step, with some frames at a time.
        renoise: gives the noise after each step, for models whose steps add noise of their own; None for deterministic
            steps.
    """
    shape = len(latents), *latents[[0]].shape[1:]
    for each in steps:
        cleaner = scratch(shape)
        for indices, prediction in predict(latents, each):
            noisier = latents[indices]
            if renoise is None:
                moved = step(parametrisation, noisier, prediction.to(noisier), each.at, each.to)
            else:
                clean = parametrisation.clean(noisier, prediction.to(noisier), each.at)
                moved = at_level(clean, renoise(indices, each).to(clean), each.to)
            cleaner[indices] = compose(indices, moved, each.to)
        latents = cleaner
        yield latents
