"""How close images are to a reference: PSNR and SSIM, per image. Images are f 3 H W in [0, 1]."""

import torch
from kornia.metrics import ssim as ssim_map
from torch import Tensor


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per image, in dB: f. Infinite for equal images."""
    return -10 * torch.log10((images - reference).square().mean(dim=(1, 2, 3)))


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity per image, in [-1, 1]: f (Wang et al., 2004; Gaussian window of 11 pixels)."""
    return ssim_map(images, reference, window_size=11).mean(dim=(1, 2, 3))
