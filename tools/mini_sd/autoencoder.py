"""Stage: trains the autoencoder (AutoencoderKL, eight times smaller on each side, 16 channels) on the mix of crops.py.

    python -m tools.mini_sd.photographs
    python -m tools.mini_sd.autoencoder

Every third batch is decoded from latents that were scaled down, turned or moved by a part of a latent, and compared
with the picture scaled, turned or moved likewise (equivariance regularisation, EQ-VAE, arXiv 2502.09509). Latents get
smooth by it: a diffusion model learns them faster, and they change less from frame to frame.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from tools.mini_sd.crops import as_batch, crops
from tools.mini_sd.networks import COMPRESSION, LATENT_CHANNELS, build_autoencoder
from tools.mini_sd.photographs import load_photographs
from tools.mini_sd.scene import render, sample_scene
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, save_tensors, stage_arguments

CROP = 96
KL_WEIGHT = 1e-6  # for each number of a latent, against errors of each number of a picture
NORMALISED_ON = 10**8  # seed of the pictures whose latents get variance 1
HELD_OUT = 10**9  # seeds from here on are never trained on


def load_autoencoder(runs: Path, device: torch.device) -> AutoencoderKL:
    """The trained autoencoder."""
    network = build_autoencoder()
    load_averages(runs / "autoencoder", {"autoencoder": network})
    return network.eval().requires_grad_(False).to(device)


def scenes(rng: np.random.Generator, count: int) -> Tensor:
    """Whole random scenes: count 3 H W, in [0,1]."""
    return as_batch([render(sample_scene(rng)).picture for _ in range(count)])


def transform(rng: np.random.Generator, latents: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same change of latents (b c h w) and picture (b 3 H W): a turn, and a smaller scale or a shift."""
    turns = int(rng.integers(4))
    latents, target = (torch.rot90(image, turns, (2, 3)) for image in (latents, target))
    if rng.random() < 0.5:
        return shift(latents, target, *rng.integers(COMPRESSION, size=2).tolist())
    side = int(rng.integers(latents.shape[-1] // 2, latents.shape[-1] + 1))
    return _shrink(latents, side), _shrink(target, side * COMPRESSION)


def shift(latents: Tensor, target: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """Both moved by less than one latent, given in pixels, and one latent smaller: b c h-1 w-1, b 3 H-8 W-8."""
    for axis, pixels in ((2, down), (3, right)):
        share, length = pixels / COMPRESSION, latents.shape[axis] - 1
        latents = (1 - share) * latents.narrow(axis, 0, length) + share * latents.narrow(axis, 1, length)
        target = target.narrow(axis, pixels, length * COMPRESSION)
    return latents, target


def _shrink(image: Tensor, side: int) -> Tensor:
    return F.interpolate(image, (side, side), mode="bilinear", antialias=True, align_corners=False)


def distance(output: Tensor, target: Tensor) -> Tensor:
    """L1, L1 of the gradients, L1 at two coarser scales, and the root of the squared error, which PSNR measures."""
    loss = F.l1_loss(output, target) + (output - target).square().flatten(1).mean(dim=1).add(1e-6).sqrt().mean()
    for axis in (2, 3):
        loss = loss + F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    for scale in (2, 4):
        loss = loss + 0.5 * F.l1_loss(F.avg_pool2d(output, scale), F.avg_pool2d(target, scale))
    return loss


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """b: decibels of each picture, for values in [0,1]."""
    error = (output.clamp(0, 1) - target).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error)


@torch.no_grad()
def held_out_psnr(network: AutoencoderKL, device: torch.device, count: int = 64) -> float:
    """Mean PSNR of whole pictures that are never trained on."""
    target = scenes(np.random.default_rng(HELD_OUT), count).to(device)
    output = network.decode(network.encode(target * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
    return float(psnr(output, target).mean())


def step_loss(
    network: AutoencoderKL, target: Tensor, rng: np.random.Generator, equivariant: bool
) -> tuple[Tensor, Tensor]:
    """The loss of one batch, and for the log the standard deviation of the least used channel."""
    with torch.autocast(target.device.type, torch.bfloat16):
        moments = network.encode(target * 2 - 1).latent_dist.parameters.float()
    posterior = DiagonalGaussianDistribution(moments)
    latents = posterior.sample()
    least_used = latents.detach().std(dim=(0, 2, 3)).min()
    if equivariant:
        latents, target = transform(rng, latents, target)
    with torch.autocast(target.device.type, torch.bfloat16):
        output = network.decode(latents).sample.float() / 2 + 0.5
    divergence = posterior.kl().mean() / posterior.mean[0].numel()
    return distance(output, target) + KL_WEIGHT * divergence, least_used


@torch.no_grad()
def normalise_latents(network: AutoencoderKL, target: Tensor) -> None:
    """Gives each channel of the latents mean 0 and variance 1 over some pictures (b 3 H W in [0,1]).

    The change is folded into the last layer of the encoder and its inverse into the first of the decoder, so that
    pictures come out as before. Sampling starts from noise of mean 0: under latents of another mean every picture
    starts out too dark or too bright (Lin et al., WACV 2024), and a narrow channel would drown in the noise.
    """
    latents = network.encode(target * 2 - 1).latent_dist.mode()
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    out, back = network.quant_conv, network.post_quant_conv
    back.bias += back.weight.flatten(1) @ mean
    back.weight *= spread[:, None, None]
    out.bias[:LATENT_CHANNELS] -= mean
    out.bias[:LATENT_CHANNELS] /= spread
    out.weight[:LATENT_CHANNELS] /= spread[:, None, None, None]
    out.bias[LATENT_CHANNELS:] -= 2 * spread.log()


def finish(run: Run, device: torch.device) -> None:
    """Normalises the finished autoencoder's latents, and stores it as both its weights and their average."""
    network = build_autoencoder()
    load_averages(run.folder, {"autoencoder": network})
    network.eval().to(device)
    normalise_latents(network, scenes(np.random.default_rng(NORMALISED_ON), 256).to(device))
    state = network.state_dict()
    stored = {
        f"{kind}.autoencoder.{key}": value.clone() for kind in ("network", "average") for key, value in state.items()
    }
    save_tensors(stored, run.folder / "state.safetensors", {"step": str(run.step)})
    print(f"normalised; held-out PSNR {held_out_psnr(network, device):.2f} dB", flush=True)


def main() -> None:
    """Trains until the last step, and prints PSNR on held-out scenes on the way."""
    arguments = stage_arguments(__doc__, steps=6000, batch=8, rate=1e-3).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    network = build_autoencoder().to(device).train()
    run = Run(
        arguments.runs / "autoencoder", {"autoencoder": network}, arguments.steps, arguments.rate, average_decay=0.995
    )
    photographs = load_photographs(arguments.runs)
    progress = Progress(run.steps)
    for step in run.loop(arguments.save_minutes):
        # Seeded by the step, so that a resumed run sees what the run without a kill would have seen.
        rng = np.random.default_rng((arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        target = crops(rng, photographs, arguments.batch, CROP).to(device)
        loss, least_used = step_loss(network, target, rng, equivariant=step % 3 == 2)
        run.descend(loss)
        progress.report(step, loss=loss.item(), least_used=least_used.item())
        if (step + 1) % 500 == 0:
            print(f"held-out PSNR {held_out_psnr(network, device):.2f} dB", flush=True)
    finish(run, device)


if __name__ == "__main__":
    main()
