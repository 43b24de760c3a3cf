"""Stage: trains the autoencoder (AutoencoderKL, eight times smaller on each side, 16 channels) on the mix of crops.py.

    python -m tools.mini_sd.photographs
    python -m tools.mini_sd.export --restore      # to go on from the averaged weights in state/, where runs/ is empty
    python -m tools.mini_sd.autoencoder           # with a GPU: --workers 14
    python -m tools.mini_sd.export --training     # the averaged weights to state/, in shards, to go on elsewhere

Every second batch is decoded from latents that were scaled down, turned or moved by a part of a latent, and compared
with the picture scaled, turned or moved likewise (equivariance regularisation, EQ-VAE, arXiv 2502.09509). Latents get
smooth by it: a diffusion model learns them faster, and they change less from frame to frame.

Stop rule: two to four hours on one thread of a CPU, which is about what STEPS take there, the last tenth of them on
whole pictures. Then the second edition has 256 pixels if `reconstruction.py` measures 36 dB on scenes, 34 dB on
drawings of the second generator and 30 dB on the film; if not, it stays at 128.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from tools.mini_sd.crops import crops
from tools.mini_sd.drawing import draw_ahead
from tools.mini_sd.networks import LATENT_CHANNELS, build_autoencoder, encode
from tools.mini_sd.photographs import load_photographs
from tools.mini_sd.reconstruction import autoencoder_figures, scenes, shift
from tools.mini_sd.scene import PICTURE
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, save_tensors, stage_arguments

STEPS = 14_000
CROP = 96
WHOLE = 0.1  # share of the steps, the last ones, that see whole pictures
SHIFTED = 0.65  # share of the changed latents that are moved and not scaled down
KL_WEIGHT = 1e-6  # for each number of a latent, against errors of each number of a picture
NORMALISED_ON = 10**8  # seed of the pictures whose latents get variance 1


def load_autoencoder(runs: Path, device: torch.device) -> AutoencoderKL:
    """The trained autoencoder."""
    network = build_autoencoder()
    load_averages(runs / "autoencoder", {"autoencoder": network})
    return network.eval().requires_grad_(False).to(device)


class Batches:
    """The batch b 3 side side of each step: a function of seed and step, so that a resumed run sees the same."""

    def __init__(self, runs: Path, seed: int, count: int) -> None:
        self.photographs = load_photographs(runs)
        self.seed, self.count = seed, count

    def __call__(self, place: tuple[int, bool]) -> np.ndarray:
        """Of a step: as many crops as asked for, or whole pictures of about as many pixels."""
        step, whole = place
        rng = np.random.default_rng((self.seed, step))
        if not whole:
            return crops(rng, self.photographs, self.count, CROP).numpy()
        return crops(rng, self.photographs, max(1, self.count * CROP**2 // PICTURE**2), PICTURE).numpy()


def transform(rng: np.random.Generator, latents: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same change of latents (b c h w) and picture (b 3 H W): a turn, and a smaller scale or a shift."""
    side = target.shape[-1] // latents.shape[-1]
    turns = int(rng.integers(4))
    latents, target = (torch.rot90(image, turns, (2, 3)) for image in (latents, target))
    if rng.random() < SHIFTED:
        return shift(latents, target, *rng.integers(side, size=2).tolist())
    smaller = int(rng.integers(latents.shape[-1] // 2, latents.shape[-1] + 1))
    return _shrink(latents, smaller), _shrink(target, smaller * side)


def _shrink(image: Tensor, side: int) -> Tensor:
    return F.interpolate(image, (side, side), mode="bilinear", antialias=True, align_corners=False)


def distance(output: Tensor, target: Tensor) -> Tensor:
    """L1, L1 at two coarser scales, the root of the squared error, which PSNR measures, and L1 of differences.

    These are between neighbours, and between red, green and blue of one pixel: without them hues are learnt late.
    """
    loss = F.l1_loss(output, target) + (output - target).square().flatten(1).mean(dim=1).add(1e-6).sqrt().mean()
    for axis in (1, 2, 3):
        loss = loss + F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    for scale in (2, 4):
        loss = loss + 0.5 * F.l1_loss(F.avg_pool2d(output, scale), F.avg_pool2d(target, scale))
    return loss


def sample_latents(network: AutoencoderKL | AutoencoderDC, target: Tensor) -> tuple[Tensor, Tensor]:
    """Latents b c h w of pictures b 3 H W in [0,1], and the KL divergence for each number; 0 where there is none."""
    with torch.autocast(target.device.type, torch.bfloat16):
        encoded = network.encode(target * 2 - 1)
    if isinstance(network, AutoencoderDC):
        return encoded.latent.float(), target.new_zeros(())
    posterior = DiagonalGaussianDistribution(encoded.latent_dist.parameters.float())
    return posterior.sample(), posterior.kl().mean() / posterior.mean[0].numel()


def step_loss(
    network: AutoencoderKL | AutoencoderDC, target: Tensor, rng: np.random.Generator, equivariant: bool
) -> tuple[Tensor, Tensor]:
    """The loss of one batch, and for the log the standard deviation of the least used channel."""
    latents, divergence = sample_latents(network, target)
    least_used = latents.detach().std(dim=(0, 2, 3)).min()
    if equivariant:
        latents, target = transform(rng, latents, target)
    with torch.autocast(target.device.type, torch.bfloat16):
        output = network.decode(latents).sample.float() / 2 + 0.5
    return distance(output, target) + KL_WEIGHT * divergence, least_used


@torch.no_grad()
def normalise_latents(network: AutoencoderKL, target: Tensor) -> None:
    """Gives each channel of the latents mean 0 and variance 1 over some pictures (b 3 H W in [0,1]).

    The change is folded into the last layer of the encoder and its inverse into the first of the decoder, so that
    pictures come out as before. Sampling starts from noise of mean 0: under latents of another mean every picture
    starts out too dark or too bright (Lin et al., WACV 2024), and a narrow channel would drown in the noise.
    """
    latents = encode(network, target)
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    out, back = network.quant_conv, network.post_quant_conv
    back.bias += back.weight.flatten(1) @ mean
    back.weight *= spread[:, None, None]
    out.bias[:LATENT_CHANNELS] -= mean
    out.bias[:LATENT_CHANNELS] /= spread
    out.weight[:LATENT_CHANNELS] /= spread[:, None, None, None]
    out.bias[LATENT_CHANNELS:] -= 2 * spread.log()


def report(network: AutoencoderKL | AutoencoderDC, count: int) -> None:
    """Prints the figures of a network on pictures that are never trained on."""
    for name, value in autoencoder_figures(network, count).items():
        print(f"  {name:60} {value:6.2f}", flush=True)


def finish(run: Run, normalise: Callable[[nn.Module, Tensor], None], network: nn.Module, device: torch.device) -> None:
    """Normalises the finished autoencoder's latents, and stores it as both its weights and their average."""
    load_averages(run.folder, {"autoencoder": network})
    network.eval().requires_grad_(False)
    normalise(network, scenes(np.random.default_rng(NORMALISED_ON), 128).to(device))
    state = network.state_dict()
    stored = {
        f"{kind}.autoencoder.{key}": value.clone() for kind in ("network", "average") for key, value in state.items()
    }
    save_tensors(stored, run.folder / "state.safetensors", {"step": str(run.step)})
    print("normalised", flush=True)
    report(network, 64)


def train(
    description: str | None,
    stage: str,
    build: Callable[[], AutoencoderKL | AutoencoderDC],
    normalise: Callable[[nn.Module, Tensor], None],
) -> None:
    """Trains until the last step, and prints figures of the averaged weights on the way."""
    parser = stage_arguments(description, steps=STEPS, batch=8, rate=1.5e-3)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw; with a GPU, nearly all cores")
    parser.add_argument("--report-every", type=int, default=1000, help="steps between figures")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    network, averaged = build().to(device).train(), build().to(device).eval()
    run = Run.of(arguments, stage, {"autoencoder": network})
    batches = Batches(arguments.runs, arguments.seed, arguments.batch)
    places = ((step, run.done >= 1 - WHOLE) for step in range(run.step, run.steps))
    drawn = draw_ahead(batches, places, arguments.workers)
    progress = Progress(run.steps)
    for step in run.loop(arguments.save_minutes):
        torch.manual_seed(arguments.seed + step)
        rng = np.random.default_rng((1, arguments.seed, step))
        loss, least_used = step_loss(network, torch.from_numpy(next(drawn)).to(device), rng, equivariant=step % 2 == 1)
        run.optimiser.zero_grad()
        loss.backward()
        run.descend()
        progress.report(step, loss=loss.detach(), least_used=least_used)
        if (step + 1) % arguments.report_every == 0:
            run.save()
            load_averages(run.folder, {"autoencoder": averaged})
            report(averaged, 16)
    finish(run, normalise, averaged, device)


def main() -> None:
    """Trains that of mini-sd."""
    train(__doc__, "autoencoder", build_autoencoder, normalise_latents)


if __name__ == "__main__":
    main()
