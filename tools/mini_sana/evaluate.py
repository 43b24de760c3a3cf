"""Stage: measures the exported Sana models by diffusers' own pipelines, and prints each figure with its goal."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC, SanaPipeline, SanaSprintPipeline

from tools.mini_sana.diffusion import GUIDANCE
from tools.mini_sd.figures import Measure, generated_figures, measure, megabytes
from tools.mini_sd.reconstruction import autoencoder_figures
from tools.mini_sd.scene import PICTURE

BATCH = 16
STEPS = {"mini-sana": 20, "mini-sana-sprint": 2}
AGREEMENT = {"object": 0.90, "background": 0.95, "material": 0.90, "style": 0.85}
FEW_STEP_LOSS = 0.05
GOALS = {
    **{f"mini-sana, 20 steps, {kind}": share for kind, share in AGREEMENT.items()},
    **{f"mini-sana-sprint, 2 steps, {kind}": share - FEW_STEP_LOSS for kind, share in AGREEMENT.items()},
    "size of the Sana models, MB": -35.0,
}


def load_pipeline(folder: Path, device: torch.device) -> SanaPipeline | SanaSprintPipeline:
    """The exported model in single precision, silent."""
    kind = SanaSprintPipeline if folder.name.endswith("sprint") else SanaPipeline
    pipeline = kind.from_pretrained(folder, dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: SanaPipeline | SanaSprintPipeline, steps: int, prompts: list[str]) -> np.ndarray:
    """f H W 3 in [0,1], one picture per prompt."""
    generator, pictures = torch.Generator("cpu").manual_seed(0), []
    for start in range(0, len(prompts), BATCH):
        made = pipeline(
            prompts[start : start + BATCH],
            height=PICTURE,
            width=PICTURE,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=generator,
            use_resolution_binning=False,
            complex_human_instruction=None,
            max_sequence_length=pipeline.tokenizer.model_max_length,
            output_type="np",
        ).images
        pictures.append(np.asarray(made, np.float32))
    return np.concatenate(pictures)


def agreement_of(name: str) -> Measure:
    """A group of figures: what the classifier sees in the pictures of a model."""

    def figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
        pipeline, steps = load_pipeline(models / name, device), STEPS[name]
        return generated_figures(f"{name}, {steps} steps", partial(generate, pipeline, steps), models, count)

    return figures


def reconstruction_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """How well the autoencoder gives pictures back, and what a shift of its latents costs."""
    autoencoder = AutoencoderDC.from_pretrained(models / "mini-sana" / "vae", dtype=torch.float32).to(device)
    return {f"mini-sana's {name}": value for name, value in autoencoder_figures(autoencoder, count // 3).items()}


def size_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """Megabytes of all of them."""
    names = ("mini-sana", "mini-sana-sprint", "mini-sana-controlnet-canny")
    return {"size of the Sana models, MB": megabytes(*(models / name for name in names))}


MEASURES: dict[str, Measure] = {
    "autoencoder": reconstruction_figures,
    "sana": agreement_of("mini-sana"),
    "sprint": agreement_of("mini-sana-sprint"),
    "size": size_figures,
}


if __name__ == "__main__":
    measure(__doc__, MEASURES, GOALS)
