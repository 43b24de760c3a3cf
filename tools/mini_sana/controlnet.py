"""Stage: trains a Canny ControlNet on the finished Sana, which stays frozen."""

from pathlib import Path

import numpy as np
import torch
from diffusers import SanaControlNetModel
from torch import Tensor

from tools.mini_sana.autoencoder import load_autoencoder
from tools.mini_sana.diffusion import STAGE as TRANSFORMER
from tools.mini_sana.diffusion import load_sana
from tools.mini_sana.latents import FOLDER
from tools.mini_sana.networks import SHIFT, build_controlnet, build_sana
from tools.mini_sd.controlnet import EMPTY_CAPTIONS
from tools.mini_sd.diffusion import draw_batch
from tools.mini_sd.flow import add_noise
from tools.mini_sd.latents import load_scenes, unpack_edges
from tools.mini_sd.muon import Muon
from tools.mini_sd.networks import encode
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments

STAGE = "sana_controlnet"


def load_controlnet(runs: Path, device: torch.device) -> SanaControlNetModel:
    """The averaged weights of the last checkpoint."""
    controlnet = build_controlnet(build_sana(guided=False))
    load_averages(runs / STAGE, {"controlnet": controlnet})
    return controlnet.eval().to(device)


def main() -> None:
    """Trains until the last step."""
    arguments = stage_arguments(__doc__, steps=2500, batch=24, rate=1e-3).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / FOLDER)
    transformer, text = load_sana(arguments.runs, TRANSFORMER, False, device)
    autoencoder = load_autoencoder(arguments.runs, device)
    controlnet = build_controlnet(transformer).to(device).train()
    run = Run(arguments.runs / STAGE, {"controlnet": controlnet}, arguments.steps, arguments.rate, optimiser_kind=Muon)
    progress = Progress(run.steps)
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((8, arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, places = draw_batch(scenes, arguments.batch, rng)
        captions = ["" if rng.random() < EMPTY_CAPTIONS else caption for caption in captions]
        noised = add_noise(latents.to(device), SHIFT)
        with torch.autocast(device.type, torch.bfloat16):
            edges = encode(autoencoder, unpack_edges(scenes.edges[places]).to(device)) * scenes.scale
            prediction = predict(controlnet, transformer, noised.noisy, noised.times, text(captions), edges)
        loss = noised.loss(prediction)
        run.descend(loss)
        progress.report(step, loss=loss.item())


def predict(
    controlnet: SanaControlNetModel,
    transformer: torch.nn.Module,
    latents: Tensor,
    times: Tensor,
    text: tuple[Tensor, Tensor],
    edges: Tensor,
) -> Tensor:
    """The velocity b c h w of latents b c h w at times b, steered by edges b c h w, encoded as pictures are."""
    tokens, mask = text
    shared = {"encoder_hidden_states": tokens, "encoder_attention_mask": mask, "timestep": times, "return_dict": False}
    (residuals,) = controlnet(latents, controlnet_cond=edges, **shared)
    return transformer(latents, controlnet_block_samples=residuals, **shared)[0]


if __name__ == "__main__":
    main()
