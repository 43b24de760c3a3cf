"""The baseline: every frame for itself. Knows no correspondence and no keyframe."""

from collections.abc import Iterator

from torch import Tensor

from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import per_frame_attention
from tokenflow.propagation.denoiser import EditDenoiser


class PerFrame:
    """Every frame for itself: the baseline that flickers.

    Args:
        editing: the model, mode and prompts.
        batch_size: frames a network call.
    """

    def __init__(self, editing: EditDenoiser, batch_size: int) -> None:
        self._denoiser = editing
        self._batch_size = batch_size

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames in batches, and the guided noise (g c h w) in their latents (f c h w are all frames')."""
        guidance = self._denoiser.guidance
        for frames in batches(range(len(latents)), self._batch_size):
            branches = self._denoiser.predict(frames, latents[frames], step, guidance.branches, per_frame_attention)
            yield frames, guidance.combine(*guidance.split(branches))
