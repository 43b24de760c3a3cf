"""Stage: trains the autoencoder (AutoencoderDC, sixteen times smaller on each side, 32 channels).

    python -m tools.mini_sd.photographs
    python -m tools.mini_sana.autoencoder         # with a GPU: --workers 14

The recipe and its stop rule are those of tools.mini_sd.autoencoder.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderDC
from torch import Tensor

from tools.mini_sana.networks import build_autoencoder, normalise_latents
from tools.mini_sd.autoencoder import train
from tools.mini_sd.networks import encode
from tools.mini_sd.training import load_averages

STAGE = "sana_autoencoder"


def load_autoencoder(runs: Path, device: torch.device) -> AutoencoderDC:
    """The trained autoencoder."""
    network = build_autoencoder()
    load_averages(runs / STAGE, {"autoencoder": network})
    return network.eval().requires_grad_(False).to(device)


def normalise(network: AutoencoderDC, pictures: Tensor) -> None:
    """Gives the latents of pictures like these (b 3 H W in [0,1]) mean 0 and variance 1."""
    normalise_latents(network, encode(network, pictures))


if __name__ == "__main__":
    train(__doc__, STAGE, build_autoencoder, normalise)
