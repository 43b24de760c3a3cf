"""How well an autoencoder gives pictures back, on pictures that it is never trained on.

python -m tools.mini_sd.reconstruction        # the autoencoder in training; --sheet FILE draws what it makes of them
"""

import argparse
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL
from torch import Tensor

from tools.mini_sd import networks
from tools.mini_sd.crops import as_batch
from tools.mini_sd.held_out import KIT, sample_held_out_scene
from tools.mini_sd.networks import build_autoencoder, compression
from tools.mini_sd.sampling import write_grid
from tools.mini_sd.scene import PICTURE, render, sample_scene
from tools.mini_sd.training import RUNS, choose_device, load_averages

FILMED = Path("data/clips/wolf.mp4")
HELD_OUT = 10**9  # seeds from here on are never trained on
BATCH = 4

Autoencoder = AutoencoderKL | AutoencoderDC


def scenes(rng: np.random.Generator, count: int) -> Tensor:
    """Whole random scenes: count 3 H W, in [0,1]."""
    return as_batch([render(sample_scene(rng)).picture for _ in range(count)])


def held_out_drawings(rng: np.random.Generator, count: int) -> Tensor:
    """Scenes of the second generator: count 3 H W, in [0,1]."""
    return as_batch([render(sample_held_out_scene(rng), KIT).picture for _ in range(count)])


def filmed(count: int, file: Path = FILMED) -> Tensor:
    """Frames spread over a square film, at the size of a picture: count 3 H W, in [0,1]."""
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    chosen = [frames[place] for place in np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
    resized = [cv2.resize(frame, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA) for frame in chosen]
    return as_batch([frame.astype(np.float32) / 255 for frame in resized])


def shift(latents: Tensor, target: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """Both moved by less than one latent, given in pixels, and one latent smaller: b c h-1 w-1, b 3 H-8 W-8."""
    side = target.shape[-1] // latents.shape[-1]
    for axis, pixels in ((2, down), (3, right)):
        share, length = pixels / side, latents.shape[axis] - 1
        latents = (1 - share) * latents.narrow(axis, 0, length) + share * latents.narrow(axis, 1, length)
        target = target.narrow(axis, pixels, length * side)
    return latents, target


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """b: decibels of each picture, for values in [0,1]."""
    error = (output.clamp(0, 1) - target).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error)


@torch.no_grad()
def encode(network: Autoencoder, pictures: Tensor) -> Tensor:
    """b 3 H W in [0,1] to latents b c h w, not scaled."""
    device = next(network.parameters()).device
    return torch.cat([networks.encode(network, part.to(device)) for part in pictures.split(BATCH)])


@torch.no_grad()
def decode(network: Autoencoder, latents: Tensor) -> Tensor:
    """The inverse of `encode`, on the CPU."""
    return torch.cat([network.decode(part).sample.cpu() / 2 + 0.5 for part in latents.split(BATCH)])


def shift_figures(network: Autoencoder, pictures: Tensor) -> dict[str, float]:
    """Decibels of decoded latents that were moved, against the moved pictures; by half and by a quarter latent."""
    figures, side = {}, compression(network)
    for name, pixels in (("a quarter", side // 4), ("half a", side // 2)):
        moved, target = shift(encode(network, pictures), pictures, pixels, pixels)
        figures[f"latents moved by {name} latent, PSNR, dB"] = float(psnr(decode(network, moved), target).mean())
    return figures


def autoencoder_figures(network: Autoencoder, count: int) -> dict[str, float]:
    """Mean PSNR on scenes, on drawings of the second generator and on a film; and what a shift of latents costs."""
    drawn = scenes(np.random.default_rng(HELD_OUT), count)
    sets = {
        "autoencoder PSNR, dB": drawn,
        "autoencoder on another generator's drawings, PSNR, dB": held_out_drawings(
            np.random.default_rng(HELD_OUT), count
        ),
        "autoencoder on a film, PSNR, dB": filmed(count),
    }
    measured = {
        name: float(psnr(decode(network, encode(network, pictures)), pictures).mean())
        for name, pictures in sets.items()
    }
    return measured | shift_figures(network, drawn)


def sheet(network: Autoencoder, count: int) -> np.ndarray:
    """Pictures of each kind, `count` in a row, and below each row what the network makes of it: 6·count H W 3."""
    rng = np.random.default_rng(HELD_OUT)
    rows = []
    for pictures in (scenes(rng, count), held_out_drawings(rng, count), filmed(count)):
        rows += [pictures, decode(network, encode(network, pictures)).clamp(0, 1)]
    return torch.cat(rows).permute(0, 2, 3, 1).numpy()


def main() -> None:
    """Prints the figures of the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    network = build_autoencoder()
    step = load_averages(arguments.runs / "autoencoder", {"autoencoder": network})
    network.eval().to(choose_device(arguments.device))
    print(f"step {step}")
    for name, value in autoencoder_figures(network, arguments.count).items():
        print(f"{name:60} {value:6.2f}")
    if arguments.sheet:
        write_grid(sheet(network, 6), 6, arguments.sheet)


if __name__ == "__main__":
    main()
