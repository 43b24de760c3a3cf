"""The autoencoder of mini-sd in FLUX.2's class."""

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2

from tools.mini_flux.networks import pack
from tools.mini_sd.latents import EncodedScenes
from tools.mini_sd.networks import AUTOENCODER_WIDTHS, LATENT_CHANNELS
from tools.mini_sd.scene import PICTURE


def as_flux2(autoencoder: AutoencoderKL, scenes: EncodedScenes) -> AutoencoderKLFlux2:
    """The same weights, with the mean and the variance of the numbers of scenes' tokens.

    The recipe trains on latents of one scale, so all means are 0 and all variances that of the unscaled latents.
    """
    network = AutoencoderKLFlux2(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=AUTOENCODER_WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * len(AUTOENCODER_WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(AUTOENCODER_WIDTHS),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=PICTURE,
    )
    weights = autoencoder.state_dict()
    numbers = pack(scenes.latents[:1]).shape[-1]
    variance = torch.full((numbers,), scenes.scale**-2 - network.config.batch_norm_eps)
    weights |= {"bn.running_mean": torch.zeros(numbers), "bn.running_var": variance}
    weights["bn.num_batches_tracked"] = torch.tensor(0)
    network.load_state_dict(weights)
    return network.eval().to(next(autoencoder.parameters()).device)
