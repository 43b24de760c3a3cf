"""Edits without an inversion: what the model makes of the source is taken out of what it makes of the edit.

So FlowEdit works, and every edit with a model of few steps, which cannot be inverted.

For a step from x = a·x₀ + b·n, with noise n that all frames share, the prediction p* that leads the source on is known.
The model, asked for the source, predicts p_source instead, and the edit is given p_edit + (p* − p_source) (virtual
inversion: Xu et al., CVPR 2024; for flows Kulikov et al., ICCV 2025). Whatever the network is, an edit with the
source's own prompt and the same guidance then returns the source.
"""

from collections.abc import Iterator

from torch import Tensor

from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Predict
from tokenflow.diffusion.schedules import Step
from tokenflow.propagation.denoiser import EditDenoiser


class Anchored:
    """A propagation of the edit beside the same propagation of the source, whose error is subtracted.

    Args:
        edit: predicts with the edit's prompt.
        source: predicts with the source's prompt, for the same groups of frames in the same order.
        denoiser: the edit's, which knows where the source's latents lead.
    """

    def __init__(self, edit: Predict, source: Predict, denoiser: EditDenoiser) -> None:
        self._edit = edit
        self._source = source
        self._denoiser = denoiser

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Groups of frames, and the prediction (g c h w) for them; latents (f c h w) are all frames'."""
        source_latents = self._denoiser.mode.source_latents_at(step.at)
        groups = zip(self._edit(latents, step), self._source(source_latents, step), strict=True)
        for (indices, edited), (_, reproduced) in groups:
            true = self._denoiser.source_prediction(indices, step).to(edited)  # g c h w
            yield indices, edited + (true - reproduced)
