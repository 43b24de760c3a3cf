"""ControlNets (Zhang et al., ICCV 2023) on what detectors see in the source: that stays, all else may change."""

from collections.abc import Sequence
from typing import Any

from tokenflow.config import ControlNet
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import Step, steps_below
from tokenflow.models.residuals import added
from tokenflow.modes.control_images import control_images
from tokenflow.modes.mode import Call, NothingInjected
from tokenflow.modes.source import InvertedClip


class ControlNetMode(NothingInjected):
    """Adds the residuals of ControlNets for the source frames' edges, depth or poses to the network's.

    Args:
        source: the clip.
        settings: which ControlNets, their detectors and scales, and between which fractions of the steps they act.
        seed: of the shared noise.
    """

    def __init__(self, source: InvertedClip, settings: ControlNet, seed: int) -> None:
        self._source = source
        self._settings = settings
        self._seed = seed
        paths = [unit.path for unit in settings.units]
        self._units = [
            (unit, source.model.load_control(unit.path, unit.detector, paths), control_images(source, unit))
            for unit in settings.units
        ]

    def source_latents_at(self, level: Level) -> Latents:
        """The source at a level, with the chosen noise."""
        return self._source.noised(level, self._settings.noise, self._seed)

    def initial_latents(self, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        """The noisiest level, and all steps; with the inversion's noise, flow models start below pure noise."""
        keeps_noise = self._settings.noise == "inversion"
        taken = steps_below(steps, self._source.model.schedule.edits_start_at) if keeps_noise else steps
        return self.source_latents_at(taken[0].at), taken

    def residuals(self, call: Call) -> Any:
        """The sum of the ControlNets' residuals for these frames and latents, each scaled; None outside their steps."""
        total = None
        for unit, control, images in self._units:
            if call.step.starts_from(unit.start) and call.step.ends_by(unit.end):
                shown = images(call.indices)  # f 3 H W
                total = added(total, control(call.latents, call.step.at, call.conditioning, shown, unit.scale))
        return total
