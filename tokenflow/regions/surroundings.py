"""What is around regions, for models that paint into images."""

from torch import Tensor

from tokenflow.diffusion.batches import as_tensor, image_batches
from tokenflow.diffusion.latents import Latents, Scratch
from tokenflow.models.inpainting import surroundings
from tokenflow.modes.source import InvertedClip


def around(source: InvertedClip, inside: Tensor, batch_size: int, scratch: Scratch) -> Latents:
    """What an inpainting model is shown of each frame of a clip: f (1 + c) h w (models/inpainting.py).

    The source is inverted, and its features are read, with everything to be painted: so one inversion fits all regions,
    and the latents that an edit starts from do not depend on the region. FlowEdit's prediction for the source is shown
    the same as that for the edit, whose difference it takes.

    Args:
        source: the clip.
        inside: f 1 h w, 1 for latents in a region, 0 outside.
        batch_size: frames per call of the autoencoder.
        scratch: allocates the result.
    """
    channels = 1 + source.model.latent_channels
    shown = scratch((len(inside), channels, *inside.shape[-2:]))
    for indices in image_batches(len(inside), batch_size, source.size):
        shown[indices] = surroundings(source.model.encode, as_tensor(source.frames[indices]), inside[indices]).cpu()
    return shown
