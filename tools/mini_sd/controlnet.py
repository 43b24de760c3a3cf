"""Stage: trains a Canny ControlNet on the finished diffusion model, which stays frozen.

The same noise prediction as in diffusion.py, with the edges of each scene given.
Far more captions are empty than there, so that the edges are heeded.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor

from tools.mini_sd.diffusion import NoiseSchedule, draw_batch, load_diffusion, tokenize
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes, unpack_edges
from tools.mini_sd.networks import build_controlnet, build_unet
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments

EMPTY_CAPTIONS = 0.3


def load_controlnet(runs: Path, device: torch.device) -> ControlNetModel:
    """The averaged weights of the last checkpoint."""
    controlnet = build_controlnet(build_unet())
    load_averages(runs / "controlnet", {"controlnet": controlnet})
    return controlnet.eval().to(device)


def main() -> None:
    """Trains until the last step."""
    arguments = stage_arguments(__doc__, steps=2500, batch=32, rate=5e-4).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / "latents", device)
    unet, text_encoder, tokenizer = load_diffusion(arguments.runs, device)
    unet.requires_grad_(False)
    text_encoder.requires_grad_(False)
    controlnet = build_controlnet(unet).to(device).train()
    run = Run.of(arguments, "controlnet", {"controlnet": controlnet})
    schedule, progress = NoiseSchedule(device), Progress(run.steps)

    def loss_of(latents: Tensor, tokens: Tensor, edges: Tensor) -> Tensor:
        noisy, noise, times = schedule.add_noise(latents)
        with torch.autocast(device.type, torch.bfloat16):
            conditioning = text_encoder(tokens).last_hidden_state
            down, middle = controlnet(noisy, times, conditioning, edges, return_dict=False)
            prediction = unet(
                noisy,
                times,
                conditioning,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
        return schedule.loss(prediction.float(), noise, times)

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, places = draw_batch(scenes, arguments.batch, rng)
        captions = ["" if rng.random() < EMPTY_CAPTIONS else caption for caption in captions]
        edges = unpack_edges(scenes.edges[places])
        loss = gradients(latents, tokenize(tokenizer, captions, device), edges)
        run.descend()
        progress.report(step, loss=loss)


if __name__ == "__main__":
    main()
