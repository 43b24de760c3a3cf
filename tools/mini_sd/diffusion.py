"""Stage: trains UNet and text encoder together on encoded scenes, to predict the noise that was added.

Losses are weighted by min(SNR, 5) / SNR (Hang et al., ICCV 2023); one caption in ten is empty, for guidance. The first
steps see latents of half the size, which cost a quarter: words, colours and shapes are learnt there, as Stable
Diffusion itself was trained at 256 pixels first (Rombach et al., CVPR 2022). That the autoencoder is equivariant makes
it possible: latents made smaller are about those of the picture made smaller.
"""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.captions import sample_caption
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import EncodedScenes, load_scenes, words_of
from tools.mini_sd.networks import build_schedule, build_text_encoder, build_unet
from tools.mini_sd.sampling import SAMPLE_PROMPTS, assemble, sample, write_grid
from tools.mini_sd.scene import PICTURE
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments

EMPTY_CAPTIONS = 0.1
SNR_LIMIT = 5.0
COARSE = 0.58


def load_diffusion(runs: Path, device: torch.device) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """The averaged weights of the last checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(runs / "tokenizer")
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    load_averages(runs / "diffusion", {"unet": unet, "text_encoder": text_encoder})
    return unet.eval().to(device), text_encoder.eval().to(device), tokenizer


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], device: torch.device) -> Tensor:
    """b LENGTH, token indices padded to full length, as the pipeline does it."""
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return tokens.input_ids.to(device)


def draw_batch(scenes: EncodedScenes, count: int, rng: np.random.Generator) -> tuple[Tensor, list[str], np.ndarray]:
    """Latents b c h w of random scenes, a fresh caption for each (now and then none), and the scenes' places."""
    places = rng.integers(len(scenes), size=count)
    captions = [
        "" if rng.random() < EMPTY_CAPTIONS else sample_caption(words_of(scenes.words[place]), rng) for place in places
    ]
    return scenes.latents[places], captions, places


def shrink(latents: Tensor) -> Tensor:
    """Latents b c h w at half the size, by area: b c h/2 w/2."""
    return F.avg_pool2d(latents, 2)


class NoiseSchedule:
    """Noise added at random times, and the loss of a prediction of it."""

    def __init__(self, device: torch.device) -> None:
        self.retained = build_schedule().alphas_cumprod.to(device)

    def add_noise(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, the noise, and the times (b)."""
        times = torch.randint(len(self.retained), (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        retained = self.retained[times].view(-1, 1, 1, 1)
        return retained.sqrt() * latents + (1 - retained).sqrt() * noise, noise, times

    def loss(self, prediction: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Squared error, each sample weighted by min(SNR, 5) / SNR."""
        retained = self.retained[times]
        signal_to_noise = retained / (1 - retained)
        weight = signal_to_noise.clamp(max=SNR_LIMIT) / signal_to_noise
        return (weight * (prediction - noise).square().flatten(1).mean(dim=1)).mean()


def main() -> None:
    """Trains until the last step, with a grid of samples on the way."""
    parser = stage_arguments(__doc__, steps=8500, batch=32, rate=1.5e-3)
    parser.add_argument("--coarse", type=float, default=COARSE, help="share of the training that sees small latents")
    parser.add_argument("--sample-every", type=int, default=500, help="steps between grids of samples")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / "latents", device)
    tokenizer = CLIPTokenizer.from_pretrained(arguments.runs / "tokenizer")
    unet, text_encoder = build_unet().to(device).train(), build_text_encoder(tokenizer).to(device).train()
    networks = {"unet": unet, "text_encoder": text_encoder}
    run = Run.of(arguments, "diffusion", networks)
    schedule, progress = NoiseSchedule(device), Progress(run.steps)

    def loss_of(latents: Tensor, tokens: Tensor) -> Tensor:
        noisy, noise, times = schedule.add_noise(latents)
        with torch.autocast(device.type, torch.bfloat16):
            conditioning = text_encoder(tokens).last_hidden_state
            prediction = unet(noisy, times, conditioning).sample
        return schedule.loss(prediction.float(), noise, times)

    gradients = Gradients(loss_of, run.parameters())
    print(f"{len(scenes)} scenes, latents scaled by {scenes.scale:.4f}, on {device}", flush=True)
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, _ = draw_batch(scenes, arguments.batch, rng)
        coarse = run.done < arguments.coarse
        loss = gradients(shrink(latents) if coarse else latents, tokenize(tokenizer, captions, device))
        run.descend()
        progress.report(step, loss=loss)
        if (step + 1) % arguments.sample_every == 0:
            run.save()
            side = PICTURE // 2 if coarse else PICTURE
            write_samples(arguments.runs, scenes.scale, device, step + 1, side)


def write_samples(runs: Path, scale: float, device: torch.device, step: int, side: int) -> None:
    """A grid of pictures of `side` pixels from the averaged weights, in samples/ beside the checkpoint."""
    start = time.monotonic()
    autoencoder = load_autoencoder(runs, device)
    autoencoder.register_to_config(scaling_factor=scale)
    pipeline = assemble(autoencoder, *load_diffusion(runs, device))
    pictures = sample(pipeline, SAMPLE_PROMPTS, seed=0, height=side, width=side)
    write_grid(pictures, 8, runs / "samples" / f"{step:06d}.png")
    print(f"samples at step {step} in {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
