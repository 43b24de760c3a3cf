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
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes, unpack_edges
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
    scenes = load_scenes(arguments.runs / FOLDER, device)
    transformer, text = load_sana(arguments.runs, TRANSFORMER, False, device)
    autoencoder = load_autoencoder(arguments.runs, device)
    controlnet = build_controlnet(transformer).to(device).train()
    run = Run.of(arguments, STAGE, {"controlnet": controlnet})
    progress = Progress(run.steps)

    def loss_of(latents: Tensor, tokens: Tensor, mask: Tensor, edges: Tensor) -> Tensor:
        noised = add_noise(latents, SHIFT)
        with torch.autocast(device.type, torch.bfloat16):
            encoded = encode(autoencoder, edges) * scenes.scale
            prediction = predict(controlnet, transformer, noised.noisy, noised.times, text(tokens, mask), encoded)
        return noised.loss(prediction)

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((8, arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, places = draw_batch(scenes, arguments.batch, rng)
        captions = ["" if rng.random() < EMPTY_CAPTIONS else caption for caption in captions]
        loss = gradients(latents, *text.tokens(captions), unpack_edges(scenes.edges[places]))
        run.descend()
        progress.report(step, loss=loss)


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
