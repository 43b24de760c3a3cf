"""The baseline: every frame for itself. Knows no correspondence and no keyframe."""

from collections.abc import Iterator

from torch import Tensor

from tokenflow.attention import each_frame_to_itself
from tokenflow.frames import batches
from tokenflow.propagation.editing import Editing
from tokenflow.rows import Latents
from tokenflow.schedule import Step


class PerFrame:
    """Every frame for itself: the baseline that flickers.

    Args:
        editing: the model, mode and prompts.
        batch_size: frames a network call.
    """

    def __init__(self, editing: Editing, batch_size: int) -> None:
        self._editing = editing
        self._batch_size = batch_size

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames in batches, and the guided noise (g c h w) in their latents (f c h w are all frames')."""
        guidance = self._editing.guidance
        for frames in batches(range(len(latents)), self._batch_size):
            branches = self._editing.predict(frames, latents[frames], step, guidance.branches, each_frame_to_itself)
            yield frames, guidance.combine(*guidance.split(branches))
