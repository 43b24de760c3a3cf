"""Stage: trains Sana's transformer and its text encoder on encoded scenes, to predict the flow's velocity.

Coarse latents first, and one caption in ten empty, as in tools.mini_sd.diffusion.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC, SanaPipeline, SanaSprintPipeline, SanaTransformer2DModel
from torch import Tensor

from tools.mini_sana.autoencoder import load_autoencoder
from tools.mini_sana.latents import FOLDER
from tools.mini_sana.networks import SHIFT, build_sana, build_schedule, build_sprint_schedule
from tools.mini_sana.text import SanaText
from tools.mini_sd.diffusion import COARSE, draw_batch, shrink
from tools.mini_sd.flow import add_noise
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.sampling import SAMPLE_PROMPTS, STEPS, write_grid
from tools.mini_sd.scene import PICTURE
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments

STAGE = "sana"
GUIDANCE = 4.5


def predict(
    transformer: SanaTransformer2DModel,
    latents: Tensor,
    times: Tensor,
    text: tuple[Tensor, Tensor],
    guidance: Tensor | None = None,
) -> Tensor:
    """The velocity b c h w of latents b c h w at times b; guidance b for a network that takes it."""
    tokens, mask = text
    if guidance is not None:
        guidance = guidance * transformer.config.guidance_embeds_scale
    return transformer(
        latents,
        encoder_hidden_states=tokens,
        encoder_attention_mask=mask,
        timestep=times,
        guidance=guidance,
        return_dict=False,
    )[0]


def load_sana(runs: Path, stage: str, guided: bool, device: torch.device) -> tuple[SanaTransformer2DModel, SanaText]:
    """The averaged weights of a stage's last checkpoint, with the text encoder, which only the first stage trains."""
    transformer, text = build_sana(guided).to(device), SanaText.build(runs, device)
    load_averages(runs / STAGE, {"text_encoder": text.encoder})
    load_averages(runs / stage, {"transformer": transformer})
    for network in (transformer, text.encoder):
        network.eval().requires_grad_(False)
    return transformer, text


def assemble(
    transformer: SanaTransformer2DModel, text: SanaText, autoencoder: AutoencoderDC
) -> SanaPipeline | SanaSprintPipeline:
    """The parts as diffusers' pipeline, silent: SANA-Sprint's if the transformer takes a guidance scale."""
    sprint = transformer.config.guidance_embeds
    kind = SanaSprintPipeline if sprint else SanaPipeline
    pipeline = kind(
        tokenizer=text.tokenizer,
        text_encoder=text.encoder,
        vae=autoencoder,
        transformer=transformer,
        scheduler=build_sprint_schedule() if sprint else build_schedule(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_samples(runs: Path, stage: str, step: int, scale: float, device: torch.device, guided: bool = False) -> None:
    """A grid of pictures from a stage's averaged weights, in samples/."""
    autoencoder = load_autoencoder(runs, device)
    autoencoder.register_to_config(scaling_factor=scale)
    pipeline = assemble(*load_sana(runs, stage, guided, device), autoencoder)
    with torch.autocast(device.type, torch.bfloat16):
        pictures = pipeline(
            list(SAMPLE_PROMPTS),
            height=PICTURE,
            width=PICTURE,
            num_inference_steps=2 if guided else STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator("cpu").manual_seed(0),
            use_resolution_binning=False,
            complex_human_instruction=None,
            max_sequence_length=pipeline.tokenizer.model_max_length,
            output_type="np",
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
    scenes = load_scenes(arguments.runs / FOLDER, device)
    transformer, text = build_sana(guided=False).to(device).train(), SanaText.build(arguments.runs, device)
    networks = {"transformer": transformer, "text_encoder": text.encoder}
    run = Run.of(arguments, STAGE, networks)
    progress = Progress(run.steps)

    def loss_of(latents: Tensor, *tokens: Tensor) -> Tensor:
        noised = add_noise(latents, SHIFT)
        with torch.autocast(device.type, torch.bfloat16):
            prediction = predict(transformer, noised.noisy, noised.times, text(*tokens))
        return noised.loss(prediction)

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((7, arguments.seed, step))
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
