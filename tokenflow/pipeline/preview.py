"""Previews while sampling: x̂₀ of a few frames through a linear map from latents to colours."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.diffusion.batches import as_images, as_tensor
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Predict
from tokenflow.diffusion.schedules import Step
from tokenflow.events import Listener, Preview
from tokenflow.modes.source import InvertedClip

MAX_FRAMES = 8
"""How many frames a preview shows: spread over the clip, and the same at every step, so that it does not jump."""


class Previewed:
    """A `Predict` that sends a `Preview` after every few steps; the predictions pass through unchanged.

    Args:
        predict: gives the predictions.
        source: the clip.
        every: steps between previews.
        on_event: receives them.
    """

    def __init__(self, predict: Predict, source: InvertedClip, every: int, on_event: Listener) -> None:
        self._predict = predict
        self._parametrisation = source.model.schedule.parametrisation
        self._every = every
        self._on_event = on_event
        self._indices = preview_indices(source.frame_count)
        self._colours = fit_colours(source, self._indices)

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """The same groups of frames and predictions."""
        clean: dict[int, Tensor] = {}
        for indices, prediction in self._predict(latents, step):
            if step.index % self._every == 0:
                shown = [position for position, index in enumerate(indices) if index in self._indices]
                noisy = latents[[indices[position] for position in shown]] if shown else None
                if noisy is not None:
                    estimate = self._parametrisation.clean(noisy, prediction[shown].to(noisy), step.at)
                    clean.update(zip((indices[position] for position in shown), estimate, strict=True))
            yield indices, prediction
        if clean:
            frames = apply_colours(torch.stack([clean[index] for index in self._indices]), self._colours)
            self._on_event(Preview(step.index, tuple(self._indices), frames))


def preview_indices(frame_count: int) -> list[int]:
    """Evenly spread frames, the first and the last among them."""
    count = min(MAX_FRAMES, frame_count)
    return np.linspace(0, frame_count - 1, count).round().astype(int).tolist()


def fit_colours(source: InvertedClip, indices: list[int]) -> Tensor:
    """The linear map from latents to colours that fits the source best, (9 c + 1) 3: from each latent and its
    neighbours.

    The source's latents and frames are both at hand, so no table per model is needed.
    """
    latents = source.latents(source.model.schedule.clean, indices)
    frames = F.interpolate(as_tensor(source.frames[indices]), latents.shape[-2:], mode="area")  # f 3 h w
    return torch.linalg.lstsq(_neighbourhoods(latents), frames.movedim(1, -1).flatten(0, 2)).solution


def apply_colours(latents: Tensor, colours: Tensor) -> np.ndarray:
    """Latents f c h w as images f h w 3 uint8."""
    frames, _, height, width = latents.shape
    values = _neighbourhoods(latents.cpu().float()) @ colours  # (f h w) 3
    return as_images(values.unflatten(0, (frames, height, width)).movedim(-1, 1).clamp(0, 1))


def _neighbourhoods(latents: Tensor) -> Tensor:
    """Every latent of f c h w with its eight neighbours and a constant: (f h w) (9 c + 1)."""
    padded = F.pad(latents, (1, 1, 1, 1), mode="replicate")
    around = F.unfold(padded, 3).transpose(1, 2).flatten(0, 1)  # (f h w) (c 9)
    return torch.cat([around, torch.ones(len(around), 1)], 1)
