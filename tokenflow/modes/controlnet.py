"""ControlNet (Zhang et al., ICCV 2023) on the edges of the source: its outlines stay, everything else may change."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenflow.config import ControlNet as Settings
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import Injection
from tokenflow.modes.mode import Call, InvertedClip

CANNY_THRESHOLDS = 100, 200
"""Of the gradient's hysteresis, on 8-bit grey pictures: what the Canny ControlNets were trained with."""


class ControlNet:
    """Adds to the network's skip connections what a ControlNet makes of the source frames' edges.

    Args:
        source: the clip.
        settings: which ControlNet, its scale, and between which fractions of the steps it acts.
        seed: of the shared noise.
    """

    def __init__(self, source: InvertedClip, settings: Settings, seed: int) -> None:
        self._source = source
        self._settings = settings
        self._seed = seed
        self._control = source.model.load_control(settings.path)
        self._edges = lru_cache(maxsize=256)(lambda frame: canny_edges(source.frames[frame]))

    def source_latents_at(self, timestep: int) -> Latents:
        """The source with as much noise, of its kind, as a time step has."""
        return self._source.noised(timestep, self._settings.noise, self._seed)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The noisiest level, by inversion or with shared noise, and all steps."""
        return self.source_latents_at(steps[0].timestep), steps

    def inject(self, call: Call) -> Injection:
        """The ControlNet's residuals for these frames and latents, scaled."""
        if call.step.is_before(self._settings.start) or not call.step.is_before(self._settings.end):
            return Injection()
        edges = torch.stack([self._edges(frame) for frame in call.frames]).float()
        down, middle = self._control(call.latents, call.step.timestep, call.conditioning, edges)
        scale = self._settings.scale
        return Injection(control=(tuple(each * scale for each in down), middle * scale))


def canny_edges(picture: np.ndarray) -> Tensor:
    """The edges of a picture (H W 3 uint8), 3 H W bool; a ControlNet takes them white (1) on black (0)."""
    edges = cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), *CANNY_THRESHOLDS)
    return torch.from_numpy(edges).bool().expand(3, -1, -1)
