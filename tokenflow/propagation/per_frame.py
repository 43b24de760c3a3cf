"""The baseline: every frame by itself."""

from collections.abc import Iterator

from torch import Tensor

from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import per_frame_attention
from tokenflow.propagation.denoiser import EditDenoiser


class PerFrame:
    """Every frame by itself: the baseline, which flickers.

    Args:
        denoiser: the model, mode and prompts.
        batch_size: frames per network call.
    """

    def __init__(self, denoiser: EditDenoiser, batch_size: int) -> None:
        self._denoiser = denoiser
        self._batch_size = batch_size

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Batches of frame indices, and the guided prediction (g c h w) for them; latents (f c h w) are all frames'."""
        guidance = self._denoiser.guidance
        references = self._denoiser.references_at(step)
        attention = per_frame_attention if references is None else references.within_frames
        for indices in batches(range(len(latents)), self._batch_size):
            branches = self._denoiser.predict(indices, latents[indices], step, guidance.branches, attention)
            yield indices, guidance.combine(*guidance.split(branches))
