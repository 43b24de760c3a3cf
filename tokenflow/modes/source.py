"""The clip that is edited: what modes and propagation read of it."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.latents import Frames, Latents, LazyLatents
from tokenflow.diffusion.levels import Level, at_level, shared_noise
from tokenflow.models.model import Model
from tokenflow.store.memory import Inversion
from tokenflow.video import ResizeMode, Video
from tokenflow.video.shots import shots_of

Noise = Literal["inversion", "shared"]
"""Which noise the source gets: that of its inversion, which keeps more of its structure; or one Gaussian sample for all
frames, which gives an edit more freedom."""


COMMON_SEED = 0
"""Of the noise that stands for an inversion's where there is none."""


@dataclass(frozen=True, eq=False)
class InvertedClip:
    """A clip and its inversion: what `invert` returns and `edit` takes.

    Attributes:
        model: the model it was inverted with.
        inversion: its latents at every noise level, and its frames at the working size.
        conditioning: its prompt, one branch.
        prompt: what it shows.
        video: the clip at full size.
        resize: how frames were brought to the working size.
        steps: how many steps the inversion took; 0 if it holds clean latents only.
        cuts: the frames at which shots begin, but for the first. Edits carry nothing from one shot to another.
    """

    model: Model = field(repr=False)
    inversion: Inversion = field(repr=False)
    conditioning: Conditioning = field(repr=False)
    prompt: str
    video: Video
    resize: ResizeMode
    steps: int
    cuts: tuple[int, ...] = ()

    @property
    def shots(self) -> tuple[range, ...]:
        """The frames of each shot."""
        return shots_of(self.frame_count, self.cuts)

    @property
    def frames(self) -> Frames:
        """f H W 3 uint8 at the working size, read when asked for."""
        return self.inversion.frames()

    @property
    def frame_count(self) -> int:
        """How many frames the clip has."""
        return len(self.inversion.times)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the working size in pixels."""
        height, width = self.frames.shape[1:3]
        return width, height

    def latents(self, level: Level, indices: Sequence[int] | None = None) -> Tensor:
        """The source's latents f c h w at a level, of all frames or of those listed.

        Between two levels of the inversion, and beyond its noisiest, they lie on the path of the inversion's own step,
        so that an edit may take another number of steps than the inversion took. Where only the clean latents are
        there, they lie on the way to one Gaussian sample, the same for all frames.
        """
        levels = self.inversion.levels
        if level in levels:
            return self.inversion.latents(level, indices)
        if len(levels) == 1:
            return self._with_shared_noise(level, COMMON_SEED, indices)
        upper = min(max(bisect_right([each.share for each in levels], level.share), 1), len(levels) - 1)
        cleaner, noisier = levels[upper - 1], levels[upper]
        parametrisation = self.model.schedule.parametrisation
        start, latents = self.inversion.latents(cleaner, indices), self.inversion.latents(noisier, indices)
        prediction = parametrisation.between(start, latents, cleaner, noisier)
        clean = parametrisation.clean(latents, prediction, noisier)
        return at_level(clean, parametrisation.noise(latents, prediction, noisier), level)

    def latents_at(self, level: Level) -> Latents:
        """The source's latents at a level, read when asked for."""
        return LazyLatents(self.frame_count, partial(self.latents, level))

    def noised(self, level: Level, noise: Noise, seed: int) -> Latents:
        """The source's latents at a level, with the inversion's noise or one Gaussian for all frames."""
        if noise == "inversion":
            return self.latents_at(level)
        return LazyLatents(self.frame_count, partial(self._with_shared_noise, level, seed))

    def _with_shared_noise(self, level: Level, seed: int, indices: Sequence[int] | None) -> Tensor:
        clean = self.inversion.latents(self.model.schedule.clean, indices)
        return at_level(clean, shared_noise(clean, seed), level)
