"""What an inpainting network is shown beside noisy latents: which of them to paint, and the image without these.

Rombach et al., CVPR 2022, section 4.5. Channels are in the order of diffusers' StableDiffusionInpaintPipeline: noisy
latents c, mask 1, latents of the rest of the image c.
"""

from collections.abc import Callable

import torch
from torch import Tensor

HIDDEN = 0.5
"""What hidden pixels are, in [0, 1]: 0 in [-1, 1]."""


def is_inpainting(channels: int, latent_channels: int) -> bool:
    """Whether a network that takes so many channels paints parts of images."""
    return channels == 2 * latent_channels + 1


def surroundings(encode: Callable[[Tensor], Tensor], frames: Tensor, inside: Tensor) -> Tensor:
    """What the network is shown of some frames: f (1 + c) h w.

    What is hidden are the pixels of the latents that are painted, so that mask and image say the same.

    Args:
        encode: frames f 3 H W in [0, 1] -> latents f c h w.
        frames: f 3 H W in [0, 1].
        inside: f 1 h w, 1 for latents to be painted, 0 for the others.
    """
    height, width = (pixels // latents for pixels, latents in zip(frames.shape[-2:], inside.shape[-2:], strict=True))
    is_hidden = inside.repeat_interleave(height, dim=-2).repeat_interleave(width, dim=-1) > 0  # f 1 H W
    latents = encode(torch.where(is_hidden, torch.full_like(frames, HIDDEN), frames))
    return torch.cat([inside.to(latents), latents], dim=1)


def nothing_shown(encode: Callable[[Tensor], Tensor], height: int, width: int, pixels_per_latent: int) -> Tensor:
    """What the network is shown where all of height × width latents are to be painted: 1 (1 + c) h w.

    Inpainting models were trained on such masks too (25 % in Stable Diffusion), and then are text-to-image models.
    """
    frame = torch.full((1, 3, height * pixels_per_latent, width * pixels_per_latent), HIDDEN)
    return surroundings(encode, frame, torch.ones(1, 1, height, width))
