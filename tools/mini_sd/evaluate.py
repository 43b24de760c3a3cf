"""Stage: measures what was exported, on scenes never trained on, and prints each figure with what it should reach.

Their poses, cameras and combinations are new; sprites and painted backgrounds are those of training. Needs the
exported models alone, no training state. With --write, figures are kept beside the models, for the card.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    DDIMInverseScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from torch import Tensor

from tokenflow.diffusion.inversion import invert_latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.parametrisation import step as sampling_step
from tokenflow.metrics.scene_classifier import load_scene_classifier
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tools.mini_sd.captions import caption
from tools.mini_sd.classifier import agreement, labelled_scenes
from tools.mini_sd.figures import CLASSIFIER, Measure, generated_figures, held_out_scenes, measure, megabytes
from tools.mini_sd.latents import find_edges
from tools.mini_sd.networks import COMPRESSION, LATENT_CHANNELS
from tools.mini_sd.reconstruction import HELD_OUT, autoencoder_figures, psnr
from tools.mini_sd.sampling import GUIDANCE, STEPS
from tools.mini_sd.scene import PICTURE, Scene, render

LATENT_SHAPE = LATENT_CHANNELS, PICTURE // COMPRESSION, PICTURE // COMPRESSION
EDGE_TOLERANCE = 2  # pixels
BATCH = 16

# What each figure should reach: at least, or at most where the sign is negative.
GOALS = {
    "autoencoder PSNR, dB": 36.0,
    "autoencoder on another generator's drawings, PSNR, dB": 34.0,
    "autoencoder on a film, PSNR, dB": 30.0,
    "classifier on scenes, object": 0.98,
    "classifier on scenes, material": 0.98,
    "classifier on scenes, style": 0.98,
    "classifier on scenes, background": 0.98,
    "prompt agreement, object": 0.95,
    "prompt agreement, material": 0.95,
    "prompt agreement, style": 0.95,
    "prompt agreement, background": 0.95,
    "prompt agreement, light": 0.95,
    "prompt agreement, object that faces left": 0.95,
    "prompt agreement, object that faces right": 0.95,
    "prompt agreement, mottle": -1.5,
    "tokenflow's inversion and back, 25 steps, dB below the autoencoder": -1.0,
    "edge F1 gained by the ControlNet": 0.25,
    "UNet call of 8 frames, s": -0.15,
    "size of mini-sd's models, MB": -60.0,
}


@dataclass(frozen=True)
class Models:
    """What was exported, loaded."""

    pipeline: StableDiffusionPipeline
    controlnet: ControlNetModel
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where all of them are."""
        return self.pipeline.device


def load_models(folder: Path, device: torch.device) -> Models:
    """The exported models in single precision."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder / "mini-sd", dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    controlnet = ControlNetModel.from_pretrained(folder / "mini-controlnet-canny", dtype=torch.float32).to(device)
    return Models(pipeline, controlnet, folder)


def pictures_of(scenes: list[Scene]) -> Tensor:
    """b 3 H W in [0,1]."""
    return torch.from_numpy(np.stack([render(scene).picture for scene in scenes])).permute(0, 3, 1, 2)


@torch.no_grad()
def reconstruct(models: Models, pictures: Tensor) -> Tensor:
    """Pictures b 3 H W through the autoencoder and back."""
    return decode(models, encode(models, pictures)).cpu()


def encode(models: Models, pictures: Tensor) -> Tensor:
    """b 3 H W in [0,1] to scaled latents b c h w."""
    autoencoder = models.pipeline.vae
    latents = autoencoder.encode(pictures.to(models.device) * 2 - 1).latent_dist.mode()
    return latents * autoencoder.config.scaling_factor


def decode(models: Models, latents: Tensor) -> Tensor:
    """The inverse of `encode`."""
    autoencoder = models.pipeline.vae
    return autoencoder.decode(latents / autoencoder.config.scaling_factor).sample / 2 + 0.5


@torch.no_grad()
def generate(models: Models, prompts: list[str], edges: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """f H W 3 in [0,1], one picture a prompt; edges f H W steer them through the ControlNet."""
    generator = torch.Generator("cpu").manual_seed(seed)
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}
    pipeline, pictures = models.pipeline, []
    if edges is not None:
        pipeline = StableDiffusionControlNetPipeline(**pipeline.components, controlnet=models.controlnet)
        pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(prompts), BATCH):
        part = slice(start, start + BATCH)
        if edges is not None:
            settings["image"] = torch.from_numpy(edges[part]).float()[:, None].expand(-1, 3, -1, -1)
        pictures.append(pipeline(prompts[part], generator=generator, **settings).images)
    return np.concatenate(pictures)


@torch.no_grad()
def invert_plainly_and_return(models: Models, pictures: Tensor, prompts: list[str]) -> Tensor:
    """Pictures b 3 H W through diffusers' DDIM inversion and sampling, both at STEPS steps and without guidance."""
    pipeline = models.pipeline
    conditioning, _ = pipeline.encode_prompt(prompts, models.device, 1, False)
    latents = encode(models, pictures)
    backwards = DDIMInverseScheduler.from_config(pipeline.scheduler.config)
    for schedule in (backwards, pipeline.scheduler):
        schedule.set_timesteps(STEPS)
        for time_step in schedule.timesteps:
            noise = pipeline.unet(latents, time_step, conditioning).sample
            latents = schedule.step(noise, time_step, latents).prev_sample
    return decode(models, latents).cpu()


def invert_and_return(model: Model, pictures: Tensor, prompts: list[str]) -> Tensor:
    """The same by tokenflow's inversion, which ships with the model."""
    schedule, steps = model.schedule, model.schedule.steps(STEPS)
    conditionings = [model.condition(prompt) for prompt in prompts]

    def predict(latents: Tensor, level: Level) -> Tensor:
        each = zip(latents.split(1), conditionings, strict=True)
        return torch.cat([model.predict(one, level, conditioning)[0] for one, conditioning in each])

    clean = model.encode(pictures)
    start = (schedule.clean, clean)
    *_, (_, latents) = invert_latents([start], steps, predict, schedule.parametrisation, batch_size=len(clean))
    for step in steps:
        latents = sampling_step(schedule.parametrisation, latents, predict(latents, step.at), step.at, step.to)
    return model.decode(latents).cpu()


def edge_f1(edges: np.ndarray, wanted: np.ndarray) -> float:
    """F1 of two edge maps H W, an edge counting as found within EDGE_TOLERANCE pixels."""
    if not edges.any() or not wanted.any():
        return 0.0
    kernel = np.ones((2 * EDGE_TOLERANCE + 1,) * 2, np.uint8)
    near_wanted, near_edges = (cv2.dilate(image.astype(np.uint8), kernel) > 0 for image in (wanted, edges))
    precision, recall = near_wanted[edges].mean(), near_edges[wanted].mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def classifier_figures(models: Models, count: int) -> dict[str, float]:
    """Accuracy on drawn scenes."""
    network = load_scene_classifier(models.folder / CLASSIFIER)
    pictures, words = labelled_scenes(np.random.default_rng(HELD_OUT), count, damaged=False)
    shares = agreement(network, pictures, words)
    return {f"classifier on scenes, {kind}": share for kind, share in shares.items()}


def agreement_figures(models: Models, count: int) -> dict[str, float]:
    """What the classifier sees in generated pictures, and how mottled they are."""
    return generated_figures("prompt agreement", partial(generate, models), models.folder, count)


def inversion_figures(models: Models, count: int) -> dict[str, float]:
    """What inversion and back loses beyond what the autoencoder loses."""
    scenes = held_out_scenes(count, offset=2)
    pictures, prompts = pictures_of(scenes), [caption(scene.words) for scene in scenes]
    alone = psnr(reconstruct(models, pictures), pictures).mean()
    model = load_model(models.folder / "mini-sd", device=str(models.device))
    returned = psnr(invert_and_return(model, pictures, prompts), pictures).mean()
    plainly = psnr(invert_plainly_and_return(models, pictures, prompts), pictures).mean()
    return {
        "tokenflow's inversion and back, 25 steps, PSNR, dB": float(returned),
        "tokenflow's inversion and back, 25 steps, dB below the autoencoder": float(alone - returned),
        "diffusers' inversion and back, 25 steps, dB below the autoencoder": float(alone - plainly),
    }


def controlnet_figures(models: Models, count: int) -> dict[str, float]:
    """How much better the edges of generated pictures match given ones with the ControlNet."""
    scenes = held_out_scenes(count, offset=3)
    prompts = [caption(scene.words) for scene in scenes]
    wanted = np.stack([find_edges(render(scene).picture) for scene in scenes])
    scores = []
    for edges in (None, wanted):
        found = [find_edges(picture) for picture in generate(models, prompts, edges)]
        scores.append(float(np.mean([edge_f1(*pair) for pair in zip(found, wanted, strict=True)])))
    without, with_edges = scores
    return {"edge F1 with the ControlNet": with_edges, "edge F1 gained by the ControlNet": with_edges - without}


@torch.no_grad()
def cost_figures(models: Models) -> dict[str, float]:
    """Seconds of a UNet call, and megabytes of everything that ships."""
    model = load_model(models.folder / "mini-sd", device=str(models.device))
    latents, conditioning, seconds = torch.randn(8, *LATENT_SHAPE), model.condition("a dog"), []
    for _ in range(10):
        start = time.perf_counter()
        model.predict(latents, model.schedule.steps(2)[0].at, conditioning)
        seconds.append(time.perf_counter() - start)
    shipped = [models.folder / name for name in ("mini-sd", "mini-controlnet-canny", CLASSIFIER)]
    return {"UNet call of 8 frames, s": float(np.median(seconds)), "size of mini-sd's models, MB": megabytes(*shipped)}


MEASURES: dict[str, Callable[[Models, int], dict[str, float]]] = {
    "autoencoder": lambda models, count: autoencoder_figures(models.pipeline.vae, count),
    "classifier": lambda models, count: classifier_figures(models, 5 * count),
    "cost": lambda models, _: cost_figures(models),
    "inversion": lambda models, count: inversion_figures(models, max(2, count // 6)),
    "agreement": agreement_figures,
    "controlnet": lambda models, count: controlnet_figures(models, max(2, count // 3)),
}
"""Groups of figures, each from the models and the number of generated pictures that are asked for."""


def of_loaded(figures: Callable[[Models, int], dict[str, float]]) -> Measure:
    """A group of figures from the folder of the models."""
    return lambda folder, count, device: figures(load_models(folder, device), count)


def main() -> None:
    """Measures, prints and writes every figure."""
    measure(__doc__, {group: of_loaded(figures) for group, figures in MEASURES.items()}, GOALS)


if __name__ == "__main__":
    main()
