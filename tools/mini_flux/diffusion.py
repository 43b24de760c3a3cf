"""Stage: trains FLUX.1's transformer with both text encoders on encoded scenes, to predict the flow's velocity.

One caption in ten is empty, so that the next stages have guidance to distil. Coarse latents first, as in
tools.mini_sd.diffusion.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from tools.mini_flux.networks import FLUX_SHIFT, TOKEN, build_flux, build_flux_schedule, pack, places, unpack
from tools.mini_flux.text import FluxText
from tools.mini_flux.tokenizers import LENGTH
from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.diffusion import COARSE, draw_batch, shrink
from tools.mini_sd.flow import add_noise
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.networks import COMPRESSION
from tools.mini_sd.sampling import SAMPLE_PROMPTS, STEPS, write_grid
from tools.mini_sd.scene import PICTURE
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments

STAGE = "flux"
FULL = PICTURE // COMPRESSION  # latents along a side
NO_GUIDANCE = 1.0


def predict(
    transformer: FluxTransformer2DModel,
    latents: Tensor,
    times: Tensor,
    text: tuple[Tensor, Tensor],
    guidance: Tensor | None = None,
) -> Tensor:
    """The velocity b c h w of latents b c h w at times b; guidance b for a network that takes it."""
    tokens, pooled = text
    height, width = latents.shape[-2:]
    positions = places(height // TOKEN, FULL // TOKEN, axes=3).to(latents.device)
    velocity = transformer(
        hidden_states=pack(latents),
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        timestep=times,
        guidance=guidance,
        img_ids=positions,
        txt_ids=torch.zeros(tokens.shape[1], 3, device=latents.device),
        return_dict=False,
    )[0]
    return unpack(velocity, height, width)


def load_flux(runs: Path, stage: str, guided: bool, device: torch.device) -> tuple[FluxTransformer2DModel, FluxText]:
    """The averaged weights of a stage's last checkpoint, with the text encoders, which only the first stage trains."""
    transformer, text = build_flux(guided).to(device), FluxText.build(runs, device)
    load_averages(runs / STAGE, text.networks)
    load_averages(runs / stage, {"transformer": transformer})
    for network in (transformer, *text.networks.values()):
        network.eval().requires_grad_(False)
    return transformer, text


def assemble(
    transformer: FluxTransformer2DModel, text: FluxText, autoencoder: AutoencoderKL, dynamic: bool = True
) -> FluxPipeline:
    """The parts as diffusers' pipeline, silent."""
    autoencoder.register_to_config(shift_factor=0.0)
    pipeline = FluxPipeline(
        scheduler=build_flux_schedule(dynamic),
        vae=autoencoder,
        text_encoder=text.clip,
        tokenizer=text.clip_tokenizer,
        text_encoder_2=text.t5,
        tokenizer_2=text.t5_tokenizer,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_samples(
    runs: Path, stage: str, step: int, scale: float, device: torch.device, guided: bool = True, **settings: float
) -> None:
    """A grid of pictures from a stage's averaged weights, in samples/; settings of the pipeline, such as its steps."""
    autoencoder = load_autoencoder(runs, device)
    autoencoder.register_to_config(scaling_factor=scale)
    pipeline = assemble(*load_flux(runs, stage, guided, device), autoencoder, dynamic=guided)
    with torch.autocast(device.type, torch.bfloat16):
        pictures = pipeline(
            list(SAMPLE_PROMPTS),
            height=PICTURE,
            width=PICTURE,
            max_sequence_length=LENGTH,
            generator=torch.Generator("cpu").manual_seed(0),
            output_type="np",
            **{"num_inference_steps": STEPS, "guidance_scale": NO_GUIDANCE} | settings,
        ).images
    write_grid(np.asarray(pictures, np.float32), 8, runs / "samples" / f"{stage}-{step:06d}.png")


def main() -> None:
    """Trains until the last step, with a grid of samples on the way."""
    parser = stage_arguments(__doc__, steps=16_000, batch=32, rate=1.5e-3)
    parser.add_argument("--coarse", type=float, default=COARSE, help="share of the training that sees small latents")
    parser.add_argument("--sample-every", type=int, default=1000, help="steps between grids of samples")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / "latents", device)
    transformer, text = build_flux(guided=True).to(device).train(), FluxText.build(arguments.runs, device)
    networks = {"transformer": transformer, **text.networks}
    run = Run.of(arguments, STAGE, networks)
    guidance = torch.full((arguments.batch,), NO_GUIDANCE, device=device)
    progress = Progress(run.steps)

    def loss_of(latents: Tensor, *tokens: Tensor) -> Tensor:
        noised = add_noise(latents, FLUX_SHIFT)
        with torch.autocast(device.type, torch.bfloat16):
            prediction = predict(transformer, noised.noisy, noised.times, text(*tokens), guidance)
        return noised.loss(prediction)

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, _ = draw_batch(scenes, arguments.batch, rng)
        if run.done < arguments.coarse:
            latents = shrink(latents)
        loss = gradients(latents, *text.tokens(captions))
        run.descend()
        progress.report(step, loss=loss)
        if (step + 1) % arguments.sample_every == 0:
            run.save()
            write_samples(arguments.runs, STAGE, step + 1, scenes.scale, device)


if __name__ == "__main__":
    main()
