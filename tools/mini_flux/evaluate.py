"""Stage: measures the exported FLUX models by diffusers' own pipelines, and prints each figure with its goal.

Instructions and references are measured on pairs of objects that were never trained together, with pictures of
training's own kind and of the second generator.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import Flux2KleinPipeline, FluxPipeline
from PIL import Image

from tokenflow.metrics.scene_classifier import load_scene_classifier
from tools.mini_flux.few_step import STEPS as FEW_STEPS
from tools.mini_flux.guidance import SHOWN_SCALE
from tools.mini_flux.instructions import sample_instruction, with_references
from tools.mini_flux.klein import GUIDANCE
from tools.mini_flux.networks import READ_LAYERS
from tools.mini_flux.pairs import held_out
from tools.mini_flux.tokenizers import LENGTH
from tools.mini_sd.classifier import agreement
from tools.mini_sd.figures import CLASSIFIER, Measure, generated_figures, measure, megabytes, to_batch
from tools.mini_sd.held_out import KIT, sample_held_out_scene
from tools.mini_sd.reconstruction import HELD_OUT
from tools.mini_sd.sampling import STEPS
from tools.mini_sd.scene import PICTURE, TRAINED_ON, Kit, Scene, render, sample_scene
from tools.mini_sd.words import HELD_OUT_OBJECTS, OBJECTS

BATCH = 16
AGREEMENT = {"object": 0.90, "background": 0.95, "material": 0.90, "style": 0.85}
FEW_STEP_LOSS = 0.05
GOALS = {
    **{f"mini-flux, 25 steps, {kind}": share for kind, share in AGREEMENT.items()},
    **{f"mini-flux-schnell, 4 steps, {kind}": share - FEW_STEP_LOSS for kind, share in AGREEMENT.items()},
    **{f"mini-flux2-klein, 25 steps, {kind}": share for kind, share in AGREEMENT.items()},
    **{
        f"mini-flux2-klein, instructions on {drawn}, {kind}": share
        for drawn in ("scenes", "another generator's drawings")
        for kind, share in {"object": 0.90, "background": 0.95, "style": 0.95}.items()
    },
    "size of the FLUX models, MB": -65.0,
}


def generate_by_flux(folder: Path, device: torch.device, steps: int, scale: float) -> Callable[..., np.ndarray]:
    """Prompts to pictures f H W 3 in [0,1]."""
    pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return _in_batches(
        lambda prompts, generator: (
            pipeline(
                prompts,
                height=PICTURE,
                width=PICTURE,
                num_inference_steps=steps,
                guidance_scale=scale,
                max_sequence_length=LENGTH,
                generator=generator,
                output_type="np",
            ).images
        )
    )


class Klein:
    """FLUX.2 [klein] by diffusers."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.pipeline = Flux2KleinPipeline.from_pretrained(folder, dtype=torch.float32).to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    def __call__(
        self, prompts: list[str], generator: torch.Generator, references: list[np.ndarray] | None = None
    ) -> np.ndarray:
        """Pictures f H W 3 in [0,1]; with references (H W 3 in [0,1]), of one prompt."""
        images = [Image.fromarray(np.round(picture * 255).astype(np.uint8)) for picture in references or []]
        return self.pipeline(
            image=images or None,
            prompt=prompts,
            height=PICTURE,
            width=PICTURE,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            max_sequence_length=LENGTH,
            text_encoder_out_layers=READ_LAYERS,
            generator=generator,
            output_type="np",
        ).images


def _in_batches(generate: Callable[[list[str], torch.Generator], np.ndarray]) -> Callable[[list[str]], np.ndarray]:
    def all_of(prompts: list[str]) -> np.ndarray:
        generator = torch.Generator("cpu").manual_seed(0)
        parts = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
        return np.concatenate([np.asarray(generate(part, generator), np.float32) for part in parts])

    return all_of


def flux_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """Of the model that is told the guidance scale."""
    generate = generate_by_flux(models / "mini-flux", device, STEPS, SHOWN_SCALE)
    return generated_figures("mini-flux, 25 steps", generate, models, count)


def schnell_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """Of the model of four steps."""
    generate = generate_by_flux(models / "mini-flux-schnell", device, FEW_STEPS, 0.0)
    return generated_figures("mini-flux-schnell, 4 steps", generate, models, count)


def klein_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """Of the model of captions and instructions, on captions."""
    generate = _in_batches(Klein(models / "mini-flux2-klein", device))
    return generated_figures("mini-flux2-klein, 25 steps", generate, models, count)


@dataclass(frozen=True)
class Drawn:
    """What draws scenes: how one is sampled, its kit, and the objects it can draw."""

    sample: Callable[[np.random.Generator], Scene]
    kit: Kit
    objects: tuple[str, ...]


DRAWN = {
    "scenes": Drawn(sample_scene, TRAINED_ON, OBJECTS),
    "another generator's drawings": Drawn(sample_held_out_scene, KIT, HELD_OUT_OBJECTS),
}


def held_out_changes(drawn: Drawn, count: int) -> list[tuple[Scene, Scene]]:
    """Scenes, and the same with another object, in pairs that are in no training."""
    rng, changes = np.random.default_rng((HELD_OUT, 5)), []
    while len(changes) < count:
        before = drawn.sample(rng)
        after = replace(before.words, object=str(rng.choice(drawn.objects)))
        if held_out(before.words, after):
            changes.append((before, before.with_words(**vars(after))))
    return changes


def instruction_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """What the classifier sees after an instruction: the new object, and all else as it was."""
    klein, figures = Klein(models / "mini-flux2-klein", device), {}
    for name, drawn in DRAWN.items():
        rng, generator = np.random.default_rng(HELD_OUT), torch.Generator("cpu").manual_seed(0)
        pictures, labels = [], []
        for before, after in held_out_changes(drawn, count // 3):
            instruction = sample_instruction(before.words, after.words, rng)
            pictures.append(klein([instruction], generator, [render(before, drawn.kit).picture])[0])
            labels.append(after.words.indices)
        shares = _agreement(models, pictures, labels)
        figures |= {f"mini-flux2-klein, instructions on {name}, {kind}": share for kind, share in shares.items()}
    return figures


def reference_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """How often the object of a second picture appears, which no word names; with that picture and without."""
    klein, figures = Klein(models / "mini-flux2-klein", device), {}
    changes = held_out_changes(DRAWN["scenes"], count // 3)
    for name, shown in (("with the reference", True), ("without", False)):
        rng, generator = np.random.default_rng(HELD_OUT), torch.Generator("cpu").manual_seed(0)
        pictures, labels = [], []
        for before, after in changes:
            other = sample_scene(rng).with_words(object=after.words.object, material=after.words.material)
            references = [render(before).picture, *([render(other).picture] if shown else [])]
            pictures.append(klein([with_references(before.words, after.words, 2, rng)], generator, references)[0])
            labels.append(after.words.indices)
        shares = _agreement(models, pictures, labels)
        figures |= {f"mini-flux2-klein, object of picture two {name}, {kind}": shares[kind] for kind in shares}
    return figures


def _agreement(models: Path, pictures: list[np.ndarray], labels: list[tuple[int, ...]]) -> dict[str, float]:
    network = load_scene_classifier(models / CLASSIFIER)
    return agreement(network, to_batch(np.stack(pictures).astype(np.float32)), torch.tensor(labels))


def size_figures(models: Path, count: int, device: torch.device) -> dict[str, float]:
    """Megabytes of all of them."""
    folders = [models / name for name in ("mini-flux", "mini-flux-schnell", "mini-flux2-klein")]
    return {"size of the FLUX models, MB": megabytes(*folders)}


MEASURES: dict[str, Measure] = {
    "flux": flux_figures,
    "schnell": schnell_figures,
    "klein": klein_figures,
    "instructions": instruction_figures,
    "references": reference_figures,
    "size": size_figures,
}


if __name__ == "__main__":
    measure(__doc__, MEASURES, GOALS)
