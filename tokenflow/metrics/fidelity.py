"""How near pictures are to a reference. Pictures are f 3 H W in [0, 1]."""

import torch
from kornia.metrics import ssim as ssim_map
from torch import Tensor


def psnr(pictures: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture, in dB: f. Infinite where both are the same."""
    return -10 * torch.log10((pictures - reference).square().mean(dim=(1, 2, 3)))


def ssim(pictures: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each picture in [-1, 1] (Wang et al., 2004; Gaussian window of 11): f."""
    return ssim_map(pictures, reference, window_size=11).mean(dim=(1, 2, 3))
