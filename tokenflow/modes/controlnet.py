"""ControlNet (Zhang et al., ICCV 2023) on the edges of the source: outlines stay, everything else may change."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenflow.config import ControlNet
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step, steps_below
from tokenflow.modes.mode import Call, NothingInjected
from tokenflow.modes.source import InvertedClip

CANNY_THRESHOLDS = 100, 200
"""Hysteresis thresholds on the gradient of 8-bit grey images, as the Canny ControlNets were trained with."""

CACHED_FRAMES = 256


class ControlNetMode(NothingInjected):
    """Adds a ControlNet's residuals for the source frames' edges to the network's skip connections.

    Args:
        source: the clip.
        settings: which ControlNet, its scale, and between which fractions of the steps it acts.
        seed: of the shared noise.
    """

    def __init__(self, source: InvertedClip, settings: ControlNet, seed: int) -> None:
        self._source = source
        self._settings = settings
        self._seed = seed
        self._control = source.model.load_control(settings.path)
        frames = source.frames
        self._edges = lru_cache(maxsize=CACHED_FRAMES)(lambda index: canny_edges(frames[index]))

    def source_latents_at(self, level: Level) -> Latents:
        """The source at a level, with the chosen noise."""
        return self._source.noised(level, self._settings.noise, self._seed)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The noisiest level, and all steps; with the inversion's noise, flow models start below pure noise."""
        keeps_noise = self._settings.noise == "inversion"
        taken = steps_below(steps, self._source.model.schedule.edits_start_at) if keeps_noise else steps
        return self.source_latents_at(taken[0].at), taken

    def residuals(self, call: Call) -> Any:
        """The ControlNet's residuals for these frames and latents, scaled."""
        if not (call.step.starts_from(self._settings.start) and call.step.ends_by(self._settings.end)):
            return None
        edges = torch.stack([self._edges(index) for index in call.indices]).float()  # f 3 H W
        return self._control(call.latents, call.step.at, call.conditioning, edges, self._settings.scale)


def canny_edges(image: np.ndarray) -> Tensor:
    """The edges of an image (H W 3 uint8), 3 H W bool; a ControlNet takes them white (1) on black (0)."""
    edges = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), *CANNY_THRESHOLDS)
    return torch.from_numpy(edges).bool().expand(3, -1, -1)
